//! What a case does: steps that say little by themselves, and get their meaning from where the
//! store is when they are taken, so that a shrunk case is still a sensible one.

use proptest::prelude::*;
use proptest::sample::Index;

pub const STREAMS: usize = 7;
pub const MAX_PAYLOAD: usize = 100 << 10;
pub const MAX_METADATA: usize = 2 << 10;
pub const MAX_BATCH_EVENTS: usize = 400;
pub const MAX_BATCH_BYTES: usize = 160 << 10;

/// A whole case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Whether the blocking face is used, or the async one.
    pub blocking: bool,
    /// Whether streams may begin branches: where none does, all else must be as it ever was.
    pub branches: bool,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<Part>),
    /// An acknowledged append once more.
    Retry {
        which: Index,
        change: Change,
        expect: Option<Expect>,
    },
    /// The newest events of a stream give way to others.
    Supersede {
        stream: usize,
        from: Place,
        adopted: Vec<EventShape>,
        reissued: Vec<EventShape>,
        wrong_head: bool,
    },
    ReadStream {
        stream: usize,
        from: Place,
        to: Place,
        backward: bool,
        limit: Option<u64>,
    },
    ReadAll {
        from: Place,
        to: Place,
        limit: Option<u64>,
    },
    Head(usize),
    Find {
        stream: usize,
        which: Index,
    },
    PersistSnapshot {
        stream: usize,
        at: Place,
        revision: u32,
        wrong_id: bool,
        bytes: usize,
    },
    ReadSnapshot(usize),
    Drain,
    RebuildIndex,
    Verify,
    /// The clock, which may also go back.
    Clock(i64),
    Reopen(End),
    LoseIndex {
        end: End,
        with_manifest: bool,
    },
    SaveIndex {
        closed: bool,
    },
    RollBackIndex {
        end: End,
        with_manifest: bool,
    },
    /// Backs up, restores elsewhere, compares.
    Restore,
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    Clean,
    Crash,
}

#[derive(Clone, Debug)]
pub struct Part {
    pub stream: usize,
    pub expect: Expect,
    pub after: After,
    pub events: Vec<EventShape>,
    pub durable: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Any,
    NoStream,
    Exists,
    /// The head, and this much beside it.
    Head(i64),
    Exact(u64),
}

/// Which event the part says that it follows.
#[derive(Clone, Copy, Debug)]
pub enum After {
    Unsaid,
    Head,
    Another(Index),
}

#[derive(Clone, Debug)]
pub struct EventShape {
    pub payload: usize,
    pub metadata: usize,
    pub tags: usize,
    pub kind: u8,
    pub dated: Option<i64>,
    /// Takes the id of an event that was sent before.
    pub id_of: Option<Index>,
}

/// What a retry differs in.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Nothing,
    /// No content: it is a retry all the same.
    Metadata,
    Payload,
    Tags,
    Revision,
    Reversed,
    WithoutFirst,
    WithoutLast,
    WithOneMore,
    FirstPartOnly,
    OtherStream,
}

/// A sequence or position, near something.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    FromStart(u64),
    FromEnd(i64),
    Max,
}

pub fn case() -> impl Strategy<Value = Case> {
    let steps = proptest::collection::vec(step(), 1..=200);
    (any::<bool>(), any::<bool>(), steps).prop_map(|(blocking, branches, steps)| Case {
        blocking,
        branches,
        steps,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..STREAMS;
    prop_oneof![
        70 => part().prop_map(|part| Step::Append(vec![part])),
        10 => proptest::collection::vec(part(), 1..4).prop_map(Step::Append),
        6 => many().prop_map(|part| Step::Append(vec![part])),
        16 => (any::<Index>(), change(), proptest::option::weighted(0.3, expect()))
            .prop_map(|(which, change, expect)| Step::Retry { which, change, expect }),
        8 => (stream(), near_end(), shapes(0..5), shapes(0..3), proptest::bool::weighted(0.05))
            .prop_map(|(stream, from, adopted, reissued, wrong_head)| {
                Step::Supersede { stream, from, adopted, reissued, wrong_head }
            }),
        14 => (stream(), place(), place(), any::<bool>(), limit())
            .prop_map(|(stream, from, to, backward, limit)| {
                Step::ReadStream { stream, from, to, backward, limit }
            }),
        6 => (place(), place(), limit())
            .prop_map(|(from, to, limit)| Step::ReadAll { from, to, limit }),
        6 => stream().prop_map(Step::Head),
        6 => (stream(), any::<Index>()).prop_map(|(stream, which)| Step::Find { stream, which }),
        6 => (stream(), place(), 0..3_u32, any::<bool>(), prop_oneof![0..40_usize, Just(9_000)])
            .prop_map(|(stream, at, revision, wrong, bytes)| Step::PersistSnapshot {
                stream, at, revision, wrong_id: wrong && revision == 0, bytes,
            }),
        6 => stream().prop_map(Step::ReadSnapshot),
        6 => (-2_000_000..5_000_000_i64).prop_map(Step::Clock),
        2 => Just(Step::Drain),
        1 => Just(Step::Verify),
        1 => Just(Step::RebuildIndex),
        2 => end().prop_map(Step::Reopen),
        1 => (end(), any::<bool>())
            .prop_map(|(end, with_manifest)| Step::LoseIndex { end, with_manifest }),
        2 => any::<bool>().prop_map(|closed| Step::SaveIndex { closed }),
        1 => (end(), any::<bool>())
            .prop_map(|(end, with_manifest)| Step::RollBackIndex { end, with_manifest }),
        1 => Just(Step::Restore),
    ]
}

fn shapes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<EventShape>> {
    proptest::collection::vec(shape(), count)
}

fn near_end() -> impl Strategy<Value = Place> {
    prop_oneof![
        20 => (-6..2_i64).prop_map(Place::FromEnd),
        2 => (-2_000..0_i64).prop_map(Place::FromEnd),
        3 => (0..8_u64).prop_map(Place::FromStart),
    ]
}

fn after() -> impl Strategy<Value = After> {
    prop_oneof![
        8 => Just(After::Unsaid),
        4 => Just(After::Head),
        1 => any::<Index>().prop_map(After::Another),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Clean), Just(End::Crash)]
}

fn part() -> impl Strategy<Value = Part> {
    let events = prop_oneof![
        1 => proptest::collection::vec(shape(), 0..1),
        60 => proptest::collection::vec(shape(), 1..5),
    ];
    let durable = proptest::bool::weighted(0.1);
    (0..STREAMS, expect(), after(), events, durable).prop_map(
        |(stream, expect, after, events, durable)| Part {
            stream,
            expect,
            after,
            events,
            durable,
        },
    )
}

/// A batch of very many small events, up to one too many.
fn many() -> impl Strategy<Value = Part> {
    let count = prop_oneof![20..=MAX_BATCH_EVENTS, Just(MAX_BATCH_EVENTS + 1)];
    // Mostly one stream, so that it outgrows the window in which ids are recognized.
    (0..2_usize, count, 0..60_usize).prop_map(|(stream, count, payload)| {
        let shape = EventShape {
            payload,
            metadata: 0,
            tags: 0,
            kind: 0,
            dated: None,
            id_of: None,
        };
        Part {
            stream,
            expect: Expect::Any,
            after: After::Unsaid,
            events: vec![shape; count],
            durable: false,
        }
    })
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        6 => Just(Expect::Any),
        1 => Just(Expect::NoStream),
        2 => Just(Expect::Exists),
        10 => Just(Expect::Head(0)),
        2 => (-4..3_i64).prop_map(Expect::Head),
        1 => prop_oneof![0..4_u64, Just(u64::MAX), Just(u64::MAX - 1)].prop_map(Expect::Exact),
    ]
}

fn shape() -> impl Strategy<Value = EventShape> {
    let payload = prop_oneof![
        3 => Just(0_usize),
        30 => 1..300_usize,
        8 => 300..5_000_usize,
        3 => 20_000..66_000_usize,
        1 => prop_oneof![Just(MAX_PAYLOAD), Just(MAX_PAYLOAD + 1)],
    ];
    let metadata = prop_oneof![20 => Just(0_usize), 6 => 1..6_usize, 1 => Just(60)];
    (
        payload,
        metadata,
        prop_oneof![4 => Just(0_usize), 1 => 1..4_usize],
        0..4_u8,
        proptest::option::weighted(0.2, any::<i64>()),
        proptest::option::weighted(0.03, any::<Index>()),
    )
        .prop_map(|(payload, metadata, tags, kind, dated, id_of)| EventShape {
            payload,
            metadata,
            tags,
            kind,
            dated,
            id_of,
        })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => Just(Change::Nothing),
        2 => Just(Change::Metadata),
        1 => Just(Change::Payload),
        1 => Just(Change::Tags),
        1 => Just(Change::Revision),
        1 => Just(Change::Reversed),
        1 => Just(Change::WithoutFirst),
        1 => Just(Change::WithoutLast),
        1 => Just(Change::WithOneMore),
        1 => Just(Change::FirstPartOnly),
        1 => Just(Change::OtherStream),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        (0..30_u64).prop_map(Place::FromStart),
        (-30..4_i64).prop_map(Place::FromEnd),
        Just(Place::Max),
    ]
}

fn limit() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(prop_oneof![0..20_u64, Just(u64::MAX)])
}
