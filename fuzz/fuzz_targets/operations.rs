//! Whatever is asked of it, the embedded store answers as the store in memory does, in segments so
//! small that they are sealed and merged all the time. The wider model, with sled, limits and lost
//! indexes, is `backends/tests/model`.
#![no_main]

#[path = "../../backends/tests/model/answers.rs"]
mod answers;
mod world;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

use world::World;

/// Most steps of a run.
const STEPS: usize = 60;

#[derive(Arbitrary, Debug)]
pub struct Case {
    /// Whether the blocking face is used, or the async one.
    blocking: bool,
    /// How few hashes all streams share, and how soon runs are merged.
    hash_bits: u8,
    fan_in: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
pub enum Step {
    Append(Part),
    AppendStreams(Vec<Part>),
    /// An acknowledged append once more.
    Retry {
        which: u8,
        change: Option<Change>,
    },
    ReadStream {
        stream: u8,
        range: (Place, Place),
        backward: bool,
        limit: Option<u8>,
    },
    ReadAll {
        range: (Place, Place),
        limit: Option<u8>,
    },
    Find {
        stream: u8,
        which: u8,
    },
    Snapshot {
        stream: u8,
        at: Place,
        revision: bool,
        wrong_id: bool,
        bytes: u16,
    },
    Clock(i32),
    Reopen {
        cleanly: bool,
    },
    Drain,
    RebuildIndex,
    Verify,
}

#[derive(Arbitrary, Debug)]
pub struct Part {
    pub stream: u8,
    pub expect: Expect,
    pub events: Vec<Shape>,
}

#[derive(Arbitrary, Debug)]
pub enum Expect {
    Any,
    NoStream,
    Exists,
    /// The head, and this much beside it.
    Head(i8),
    Exact(u64),
}

#[derive(Arbitrary, Debug)]
pub struct Shape {
    pub payload: u16,
    pub metadata: u8,
    pub tagged: bool,
    pub dated: Option<i64>,
    /// Takes the id of an event that was sent before.
    pub id_of: Option<u8>,
}

/// What a retry differs in.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Change {
    Metadata,
    Payload,
    Reversed,
    WithoutFirst,
    WithOneMore,
    FirstPartOnly,
    OtherStream,
    NowExpected,
}

/// A sequence or position, near something.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Place {
    FromStart(u8),
    FromEnd(i8),
    Exact(u64),
}

fuzz_target!(|case: Case| {
    let mut world = World::new(
        case.blocking,
        1 + u32::from(case.hash_bits % 64),
        2 + usize::from(case.fan_in % 4),
    );
    for (number, step) in case.steps.iter().take(STEPS).enumerate() {
        if let Err(why) = world.take(step) {
            panic!("step {number}, {step:?}: {why}");
        }
    }
    if let Err(why) = world.end() {
        panic!("at the end: {why}");
    }
});
