//! A listener whose effect is a line in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::*;

use crate::child::{Order, Part};
use crate::sweep::{Random, Tally};

const NAME: &str = "mail";
const TYPE: &str = "Note";
/// The payload of an event that is not handled before its cause is gone.
const POISON: &[u8] = b"poison";

/// Writes what it handles into a file that outlives the process.
struct Mail {
    notes: Notes,
    healed: u64,
    random: Mutex<Random>,
}

/// Appends lines, each with one call.
struct Notes {
    file: File,
    child: u64,
}

impl Notes {
    fn open(order: &Order) -> Self {
        let path = order.root.join("handled");
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self {
            file: file.unwrap(),
            child: order.child,
        }
    }

    fn write(&self, what: &str, stream: &str, number: u64) {
        let line = format!("{what} {} {stream} {number}\n", self.child);
        (&self.file).write_all(line.as_bytes()).unwrap();
    }
}

impl EventListener for Mail {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        if &event.event[..] == POISON && event.position.unwrap() > self.healed {
            return Err(HandlerError::permanent("poison"));
        }
        let luck = self.random.lock().below(64);
        if luck < 4 {
            return Err(HandlerError::passing("no answer"));
        }
        self.notes.write("h", event.aggregate_id(), event.sequence);
        if luck == 4 {
            return Err(HandlerError::passing("the answer was lost"));
        }
        Ok(())
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        event.aggregate_type() == TYPE
    }
}

fn start(log: &BlockingTidelog, order: &Order) -> RunningListeners {
    let mail = Mail {
        notes: Notes::open(order),
        healed: order.healed,
        random: Mutex::new(Random(order.seed)),
    };
    let retry = RetryPolicy {
        first: Duration::from_millis(1),
        ceiling: Duration::from_millis(5),
        ..RetryPolicy::for_ever()
    };
    let options = ListenerOptions::default()
        .concurrency(3)
        .retry(retry)
        .save_every(Duration::from_millis(10));
    let container = log.inner().listeners().listener_with(NAME, mail, options);
    container.build().unwrap().start().unwrap()
}

/// What a child does with it.
pub struct Working {
    control: ListenerControl,
    notes: Notes,
    _running: RunningListeners,
}

impl Working {
    pub fn start(log: &BlockingTidelog, order: &Order) -> Self {
        let running = start(log, order);
        Self {
            control: running.control(NAME).unwrap(),
            notes: Notes::open(order),
            _running: running,
        }
    }
}

impl Part for Working {
    fn act(&mut self, log: &BlockingTidelog, random: &mut Random) {
        match random.below(16) {
            0 | 1 => {
                let parked = self.control.parked();
                if let Some(parked) = parked.get(random.below(parked.len())) {
                    ends_in_order(pollster::block_on(self.control.resume(&parked.stream)));
                }
            }
            2 if random.one_in(2) => {
                let parked = self.control.parked();
                if let Some(parked) = parked.get(random.below(parked.len())) {
                    // It stands there before it is done: whether it was is not known after a kill.
                    let id = parked.stream.aggregate_id();
                    self.notes.write("s", id, parked.sequence);
                    ends_in_order(pollster::block_on(self.control.skip(&parked.stream)));
                }
            }
            3 if random.one_in(4) => {
                let settled = self.control.status().settled;
                let position = settled.saturating_sub(random.below(40) as u64) + 1;
                self.notes.write("p", "-", position);
                pollster::block_on(self.control.replay_from(position)).unwrap();
            }
            _ => append(log, random),
        }
    }
}

/// A parked stream may fail again, or be met by a replay meanwhile.
fn ends_in_order(done: Result<(), Error>) {
    match done {
        Ok(()) | Err(Error::Parked { .. } | Error::InvalidInput { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}

fn append(log: &BlockingTidelog, random: &mut Random) {
    let stream = StreamId::new(TYPE, &format!("n{}", random.below(6))).unwrap();
    let count = 1 + random.below(3);
    let events = (0..count).map(|_| {
        let payload = if random.one_in(16) { POISON } else { b"fine" };
        NewEvent::new("Noted", 1, ContentType::Bytes, payload)
    });
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, events.collect());
    let durability = [Durability::Power, Durability::Process];
    let batch = batch.with_durability(*random.pick(&durability));
    log.append(batch).unwrap();
}

/// Lets the listener handle all there is.
pub fn rest(log: &BlockingTidelog, order: &Order) {
    let running = start(log, order);
    let control = running.control(NAME).unwrap();
    pollster::block_on(control.wait_for(log.last_position())).unwrap();
    for parked in control.parked() {
        pollster::block_on(control.resume(&parked.stream)).unwrap();
    }
    running.stop().unwrap();
}

/// What the parent knows.
#[derive(Default)]
pub struct Oracle {
    healed: u64,
    state: Option<ListenerState>,
    lines: usize,
    /// Sequences handled, and perhaps skipped, of each stream.
    handled: BTreeMap<String, BTreeSet<u64>>,
    skipped: BTreeMap<String, BTreeSet<u64>>,
}

impl Oracle {
    pub fn heals(&mut self, up_to: u64) {
        self.healed = up_to;
    }

    /// Looks at the lines that were written since the last look, and at the checkpoint.
    pub fn look(
        &mut self,
        store: &SledStore,
        events: &[EventEnvelope],
        root: &Path,
        tally: &mut Tally,
    ) {
        let notes: BTreeMap<(&str, u64), &EventEnvelope> = events
            .iter()
            .filter(|event| event.aggregate_type() == TYPE)
            .map(|event| ((event.aggregate_id(), event.sequence), event))
            .collect();
        self.look_at_lines(&notes, root, tally);
        let name = NAME;
        let bytes = pollster::block_on(store.load(name)).unwrap();
        if let Some(bytes) = bytes {
            let state = ListenerState::decode(name, &bytes).unwrap();
            self.look_at_state(&notes, &state, events);
            self.state = Some(state);
        }
    }

    fn look_at_lines(
        &mut self,
        notes: &BTreeMap<(&str, u64), &EventEnvelope>,
        root: &Path,
        tally: &mut Tally,
    ) {
        let text = fs::read_to_string(root.join("handled")).unwrap_or_default();
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let new: Vec<Vec<&str>> = lines
            .skip(self.lines)
            .map(|line| line.trim_end().split(' ').collect())
            .collect();
        self.lines += new.len();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        // After this, what was settled may come again.
        let mut replays = 0;
        let mut turned_back: BTreeMap<&str, u32> = BTreeMap::new();
        for words in &new {
            let (stream, number) = (words[2], words[3].parse::<u64>().unwrap());
            match words[0] {
                "s" => drop(
                    self.skipped
                        .entry(stream.into())
                        .or_default()
                        .insert(number),
                ),
                "p" => replays += 1,
                _ => {
                    let event = notes.get(&(stream, number));
                    let event =
                        event.unwrap_or_else(|| panic!("{stream} {number} is not in the log"));
                    let handled = self.handled.entry(stream.into()).or_default();
                    let skipped = self.skipped.entry(stream.into()).or_default();
                    let missing =
                        (1..number).find(|n| !handled.contains(n) && !skipped.contains(n));
                    assert_eq!(missing, None, "{stream} {number} was handled before it");
                    let is_new = handled.insert(number);
                    tally.count("events handled", if is_new { "once" } else { "again" });
                    if !is_new && replays == 0 {
                        self.check_redelivery(event);
                    }
                    let before = last.insert(stream, number).unwrap_or(0);
                    if number < before {
                        let times = turned_back.entry(stream).or_default();
                        *times += 1;
                        assert!(*times <= replays, "{stream} {number} came after {before}");
                    }
                }
            }
        }
    }

    /// What was settled in the checkpoint that the child began with does not come again, unless it
    /// was held.
    fn check_redelivery(&self, event: &EventEnvelope) {
        let Some(state) = &self.state else { return };
        let parked = state.parked.get(&event.stream);
        let was_held = parked.is_some_and(|parked| event.sequence >= parked.sequence);
        assert!(
            event.position.unwrap() > state.mark.position || was_held,
            "{event:?} was settled: {state:?}"
        );
    }

    fn look_at_state(
        &self,
        notes: &BTreeMap<(&str, u64), &EventEnvelope>,
        state: &ListenerState,
        events: &[EventEnvelope],
    ) {
        let mark = state.mark.position;
        assert!(
            mark <= events.len() as u64,
            "the checkpoint is ahead of its log"
        );
        if let Some(event) = events.iter().find(|event| event.position == Some(mark)) {
            assert_eq!(Mark::of(event), Some(state.mark));
        }
        let failed = |parked: &&ParkedStream| parked.held() > 0 && parked.attempts > 0;
        for parked in state.parked.values().filter(failed) {
            let event = notes[&(parked.stream.aggregate_id(), parked.sequence)];
            assert_eq!(event.event, POISON, "{parked:?}");
            assert_eq!(
                (event.event_id, &*parked.reason),
                (parked.event_id, "poison")
            );
        }
        for event in notes
            .values()
            .filter(|event| event.position.unwrap() <= mark)
        {
            let (id, sequence) = (event.aggregate_id(), event.sequence);
            let of = |sets: &BTreeMap<String, BTreeSet<u64>>| {
                sets.get(id).is_some_and(|set| set.contains(&sequence))
            };
            let parked = state.parked.get(&event.stream);
            let held =
                parked.is_some_and(|parked| parked.held() > 0 && parked.sequence <= sequence);
            assert!(
                of(&self.handled) || of(&self.skipped) || held,
                "{id} {sequence} is settled and was not handled"
            );
            if event.event == POISON && event.position.unwrap() > self.healed && !of(&self.handled)
            {
                assert!(held || of(&self.skipped), "{id} {sequence} is not parked");
            }
        }
    }

    /// Everything was handled, but what was skipped.
    pub fn look_at_rest(&self, events: &[EventEnvelope], tally: &mut Tally) {
        let state = self
            .state
            .clone()
            .unwrap_or(ListenerState::after(Mark::START));
        assert_eq!(state.mark.position, events.len() as u64);
        assert!(state.parked.values().all(|parked| parked.held() == 0));
        for event in events.iter().filter(|event| event.aggregate_type() == TYPE) {
            let (id, sequence) = (event.aggregate_id(), event.sequence);
            if self
                .handled
                .get(id)
                .is_some_and(|set| set.contains(&sequence))
            {
                tally.count("events at rest", "handled");
            } else {
                assert!(self.skipped[id].contains(&sequence), "{id} {sequence}");
                tally.count("events at rest", "skipped");
            }
        }
    }
}
