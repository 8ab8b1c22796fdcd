//! Keys go to the partitions that Java's own producer sends them to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rdkafka::Message as _;

use crate::java::Java;
use crate::{services, topics};

const KEYS: usize = 1_000;
/// Reads keys in hex; says where each goes among 7 and among 12 partitions.
const PARTITION: &str = r#"
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

public class Partition {
    public static void main(String[] none) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, "US-ASCII"));
        String line;
        while ((line = lines.readLine()) != null) {
            byte[] key = HexFormat.of().parseHex(line);
            int seven = BuiltInPartitioner.partitionForKey(key, 7);
            System.out.println(seven + " " + BuiltInPartitioner.partitionForKey(key, 12));
        }
    }
}
"#;

/// Different ids of aggregates: of every length up to 256 bytes, and of characters of 1 to 4 bytes.
fn keys() -> Vec<String> {
    let alphabets: [&[char]; 4] = [
        &['a', 'Z', '0', '-', '/', ' '],
        &['é', 'ß', 'Ж', 'ñ'],
        &['語', 'あ', '€', 'e', '\u{301}'],
        &['🦀', '𝔘', 'x'],
    ];
    let mut state = 7_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut keys = vec!["x".repeat(256), "é".to_owned(), "e\u{301}".to_owned()];
    while keys.len() < KEYS {
        let alphabet = alphabets[next(alphabets.len())];
        let length = 1 + next(20) * next(12);
        let mut key: String = (0..length)
            .map(|_| alphabet[next(alphabet.len())])
            .collect();
        while key.len() > 256 {
            key.pop();
        }
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

#[test]
fn every_key_goes_where_java_puts_it() {
    let (Some(address), Some(java)) = (services::kafka(), Java::find()) else {
        return;
    };
    let keys = keys();
    let hex = keys.iter().fold(String::new(), |mut hex, key| {
        for byte in key.as_bytes() {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex + "\n"
    });
    let said = java.run("Partition", PARTITION, hex.as_bytes());
    let said: Vec<Vec<i32>> = said
        .lines()
        .map(|line| {
            line.split(' ')
                .map(|number| number.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(said.len(), KEYS);
    for (at, partitions) in [7, 12].into_iter().enumerate() {
        let topic = topics::unique("keys");
        topics::create(&address, &topic, partitions, &[]);
        let messages = keys
            .iter()
            .map(|key| (Some(key.as_bytes()), Some(&b""[..]), &[][..]));
        topics::write(&address, &topic, messages);
        let mut found = BTreeMap::new();
        for message in topics::read(&address, &topic).into_values().flatten() {
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            found.insert(key, message.partition());
        }
        assert_eq!(found.len(), KEYS);
        for (key, said) in keys.iter().zip(&said) {
            assert_eq!(found[key], said[at], "{key:?} of {partitions}");
        }
        topics::delete(&address, &[&topic]);
    }
}
