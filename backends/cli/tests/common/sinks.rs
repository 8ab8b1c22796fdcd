//! What replication and publishing keep in a store, as their formats lay it down.

use tidelog::{CheckpointStore, SledStore};

/// Saves the state of a sink in a store that has events: two parked streams of the replica's, one of
/// Kafka's.
pub fn with_sinks(store: &SledStore) {
    let save = |name, state: Vec<u8>| {
        pollster::block_on(store.save(name, 1, state.into())).unwrap();
    };
    save("sink.scylla", replica());
    save("sink.kafka", kafka());
}

fn stream(into: &mut Vec<u8>, id: &str, reason: u8, first_sequence: u8, first_position: u8) {
    into.extend([4, b'T', b'i', b'l', b'l', u8::try_from(id.len()).unwrap()]);
    into.extend(id.as_bytes());
    into.extend([reason, first_sequence, first_position]);
    into.extend([7; 16]);
}

fn replica() -> Vec<u8> {
    let mut state = vec![1];
    state.extend([3; 16]);
    state.extend([0xe8, 7, 0xe8, 7, 0]);
    for byte in [1, 2, 4] {
        state.extend([byte; 16]);
    }
    // No other session; position, commit and hash of what is settled.
    state.extend([0, 9, 5]);
    state.extend([9; 32]);
    // One stretch of epochs.
    state.push(1);
    state.extend([2; 16]);
    state.push(1);
    state.push(4);
    // Another origin's event stands in its place.
    stream(&mut state, "1", 1, 3, 8);
    state.push(4);
    state.extend([8; 16]);
    state.extend([8, 1, 0, 0, 9, 0]);
    // Its append wrote to another stream that is parked.
    stream(&mut state, "2", 2, 1, 7);
    state.push(0);
    state.extend([0; 16]);
    state.extend([7, 2, 1, 0, 9, 6]);
    state.extend(b"Till/1");
    // Refused, with a text that would steer a terminal.
    stream(&mut state, "3", 5, 1, 9);
    state.push(0);
    state.extend([0; 16]);
    state.extend([9, 1, 0, 0, 9, 6]);
    state.extend(b"no\x1b[2J");
    // A person has resolved it: it is not parked any more.
    stream(&mut state, "4", 1, 2, 6);
    state.push(0);
    state.extend([0; 16]);
    state.extend([6, 1, 0, 9, 9, 0]);
    state
}

fn kafka() -> Vec<u8> {
    let mut state = vec![1, 2, b'c', b'1'];
    for byte in [1, 2, 4, 0] {
        state.extend([byte; 16]);
    }
    state.extend([10, 5]);
    state.extend([9; 32]);
    // Nothing is published once more, no topic began again, no place is known.
    state.extend([0, 0, 0]);
    state.push(1);
    stream(&mut state, "1", 6, 3, 8);
    state.extend([9, 0]);
    state
}
