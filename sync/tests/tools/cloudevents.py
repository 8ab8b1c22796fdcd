"""read ADDRESS TOPIC: everything in the topic, understood by the CloudEvents SDK, as lines of JSON.
write ADDRESS TOPIC: events of the SDK's own making, and some things that are no events."""
import json
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

verb, address, topic = sys.argv[1:]


def read():
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "cloudevents", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    left = len(partitions)
    while left:
        message = consumer.poll(30)
        if message is None:
            sys.exit(f"{topic}: no end")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            left -= 1
            continue
        headers = dict(message.headers() or [])
        event = from_kafka(KafkaMessage(headers=headers, key=message.key(), value=message.value()), JSONFormat())
        data = event.get_data()
        if isinstance(data, str) and "json" not in event.get_attributes()["datacontenttype"]:
            data = data.encode()
        is_json = not isinstance(data, (bytes, type(None)))
        as_bytes = json.dumps(data, separators=(",", ":")).encode() if is_json else data
        attributes = event.get_attributes()
        time = attributes.get("time")
        if time is not None:
            attributes = {**attributes, "time": time.isoformat(timespec="microseconds")}
        print(
            json.dumps(
                {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "attributes": {name: str(value) for name, value in attributes.items()},
                    "data": None if as_bytes is None else as_bytes.hex(),
                    "is_json": is_json,
                }
            )
        )


def write():
    producer = Producer({"bootstrap.servers": address, "partitioner": "murmur2_random"})

    def event(name, data, **more):
        attributes = {"id": name, "source": "/tills/python", "type": "Sold", "specversion": "1.0", **more}
        return CloudEvent(attributes=attributes, data=data)

    def send(name, message, key):
        headers = list(message.headers.items())
        producer.produce(topic, key=key, value=message.value, headers=headers)
        print(name, (key or b"").decode(), sep="\t")

    subject = {"subject": "Till/py", "datacontenttype": "application/json"}
    send("with-subject", to_binary(event("with-subject", {"article": "tea"}, **subject), JSONFormat()), b"py")
    send("without-subject", to_binary(event("without-subject", {"article": "rum"}), JSONFormat()), b"py")
    send("structured", to_structured(event("structured", {"article": "ale"}, **subject), JSONFormat()), b"py")
    send("without-key", to_binary(event("without-key", {"article": "gin"}, **subject), JSONFormat()), None)
    send("of-bytes", to_binary(event("of-bytes", b"\x00\xff", subject="Till/py"), JSONFormat()), b"py")
    for name, key, value, headers in (
        ("no-headers", b"garbage-1", b"hello", []),
        ("wrong-utf-8", b"garbage-2", b"{}", [("ce_id", b"\xff"), ("ce_source", b"a"), ("ce_type", b"b"), ("ce_specversion", b"1.0")]),
        ("no-json", b"garbage-3", b"{", [("content-type", b"application/cloudevents+json")]),
        ("null", b"garbage-4", None, []),
    ):
        producer.produce(topic, key=key, value=value, headers=headers)
        print(name, key.decode(), sep="\t")
    if producer.flush(30):
        sys.exit("not all was sent")


{"read": read, "write": write}[verb]()
