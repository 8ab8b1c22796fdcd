//! The sweep of failing calls: the nth call of each class fails, once, for every n there is.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use crate::shim::{self, Flag};
use crate::sweep::{self, Random, Tally};
use crate::workload::STORE;
use crate::{faulty, scratch};

/// A child that says nothing for so long hangs.
const HANG: Duration = Duration::from_secs(60);

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
/// Only some of the bytes are written.
const SHORT: i32 = 0;

/// What may fail and how.
const FAULTS: [(&str, i32); 17] = [
    ("write", EIO),
    ("write", ENOSPC),
    ("write", EINTR),
    ("write", SHORT),
    ("grow", ENOSPC),
    ("sync", EIO),
    ("sync", ENOSPC),
    ("sync", EINTR),
    ("range", EIO),
    ("range", EINTR),
    ("open", EIO),
    ("open", EMFILE),
    ("rename", EIO),
    ("rename", ENOSPC),
    ("truncate", EIO),
    ("unlink", EIO),
    ("mkdir", ENOSPC),
];

/// In all paths, and in that of sled's file.
const EVERYWHERE: &str = "store";
const SLED: &str = "/db";

/// One call that fails.
#[derive(Clone, Copy, Debug)]
struct Point {
    class: &'static str,
    n: u64,
    error: i32,
    /// Only calls about paths that contain this are counted.
    part: &'static str,
}

impl Point {
    fn kind(&self) -> String {
        let error = match self.error {
            EINTR => "EINTR",
            EIO => "EIO",
            EMFILE => "EMFILE",
            ENOSPC => "ENOSPC",
            _ => "short",
        };
        format!("{} {error}", self.class)
    }
}

/// What a child said, and how it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Its last words: appends acknowledged, and the errors it met.
    pub done: Option<(u64, String)>,
    pub errors: String,
    pub wrong: Option<String>,
}

/// Runs a child to its end, or to a minute of silence.
pub fn run(mut command: Command) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let hear = shim::listen(&mut child);
    let mut ended = Ended::default();
    loop {
        match hear.recv_timeout(HANG) {
            Ok(line) => {
                if let ["done", count, met] = line.splitn(3, ' ').collect::<Vec<_>>()[..] {
                    ended.done = Some((count.parse().unwrap(), met.to_owned()));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                ended.wrong = Some("it hangs".into());
                break;
            }
        }
    }
    let status = child.wait().unwrap();
    ended.errors = errors.join().unwrap();
    if ended.wrong.is_none() {
        if let Some(panic) = own_panic(&ended.errors) {
            ended.wrong = Some(format!("a panic: {panic}"));
        } else if !status.success() || ended.done.is_none() {
            ended.wrong = Some(format!("{status}: {}", ended.errors));
        }
    }
    ended
}

/// A panic outside of sled, whose own are caught.
fn own_panic(errors: &str) -> Option<&str> {
    let mut panics = errors.match_indices("panicked at ");
    let (at, _) = panics.find(|(at, _)| {
        let place = errors[*at..].lines().next().unwrap_or_default();
        !place.contains("/sled-0.34.7/")
    })?;
    Some(errors[at..].get(..400).unwrap_or(&errors[at..]))
}

/// How many calls of each class the workload makes when nothing fails.
fn counts(library: &Path, work: &str, part: &str) -> HashMap<String, u64> {
    let scratch = scratch::folder();
    let mut child = faulty_child(library, scratch.path(), work);
    child
        .env("TIDELOG_SHIM_COUNT", "1")
        .env("TIDELOG_SHIM_INJECT", format!("none 0 0 0 {part}"));
    let ended = run(child);
    assert!(ended.wrong.is_none(), "{ended:?}");
    let lines = ended.errors.lines();
    let counts = lines.filter_map(|line| line.strip_prefix("shim: count "));
    let counts = counts.filter_map(|line| line.split_once(' '));
    counts
        .map(|(class, count)| (class.to_owned(), count.parse().unwrap()))
        .collect()
}

pub fn faulty_child(library: &Path, root: &Path, work: &str) -> Command {
    let order = format!("{work} {}", root.join(STORE).display());
    shim::child(library, root, Flag::Inherited, &order)
}

/// Lets the child meet the fault, then looks at what is left.
fn try_point(library: &Path, point: Point) -> (String, Option<String>) {
    let scratch = scratch::folder();
    let Point {
        class,
        n,
        error,
        part,
    } = point;
    let mut child = faulty_child(library, scratch.path(), "faulty");
    child.env(
        "TIDELOG_SHIM_INJECT",
        format!("{class} {n} {n} {error} {part}"),
    );
    let ended = run(child);
    let hit = ended.errors.lines().find(|line| line.starts_with("shim: "));
    let mut wrong = ended.wrong;
    let mut outcome = "not reached".to_owned();
    if let Some((_, met)) = &ended.done
        && let Some(hit) = hit
    {
        outcome = if met.is_empty() {
            "nobody noticed".to_owned()
        } else {
            met.clone()
        };
        let harmless = [EINTR, SHORT].contains(&error) || hit.contains(".seg.new'");
        if wrong.is_none()
            && met.is_empty()
            && hit.contains(".seg'")
            && !harmless
            && class != "open"
        {
            wrong = Some("a failure in the log was passed over".into());
        }
    }
    let wrong = wrong.or_else(|| faulty::check(&scratch.path().join(STORE)).err());
    let told = wrong.map(|wrong| format!("{point:?}: {}: {wrong}", hit.unwrap_or_default()));
    (outcome, told)
}

#[test]
fn after_a_failed_call_writes_are_refused_reads_go_on_and_nothing_is_lost() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let counts = counts(library, "faulty", EVERYWHERE);
    eprintln!("calls without a fault: {counts:?}");
    let mut points = Vec::new();
    for (class, error) in FAULTS {
        let calls = counts[class];
        points.extend((1..=calls).map(|n| Point {
            class,
            n,
            error,
            part: EVERYWHERE,
        }));
    }
    if !sweep::is_full() {
        let mut random = Random(seed);
        points.retain(|_| random.one_in(40));
    }
    try_all(library, &points);
}

#[test]
fn a_failed_sync_of_sleds_file_is_no_panic_wherever_it_comes() {
    let Some(library) = shim::library() else {
        return;
    };
    let calls = counts(library, "faulty", SLED)["sync"];
    let points: Vec<_> = (1..=calls)
        .map(|n| Point {
            class: "sync",
            n,
            error: EIO,
            part: SLED,
        })
        .collect();
    try_all(library, &points);
}

#[test]
fn a_full_disk_keeps_the_store_readable_and_room_lets_it_go_on() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let bytes = counts(library, "full", EVERYWHERE)["bytes"];
    let sizes = if sweep::is_full() { 100 } else { 12 };
    let mut random = Random(seed);
    // sled alone takes a first half before there is any store.
    let step = bytes / 2 / sizes;
    let sizes: Vec<u64> = (sizes..2 * sizes)
        .map(|n| n * step + random.next() % step)
        .collect();
    let found = in_parallel(&sizes, |size| {
        let scratch = scratch::folder();
        let mut child = faulty_child(library, scratch.path(), "full");
        child.env("TIDELOG_SHIM_SPACE", size.to_string());
        let ended = run(child);
        let (done, met) = ended.done.unwrap_or_default();
        let store = scratch.path().join(STORE);
        let wrong = ended.wrong.or_else(|| faulty::go_on(&store, done).err());
        let told = wrong.map(|wrong| format!("full at {size} bytes: {wrong}"));
        ("full disk".to_owned(), met, told)
    });
    found.print();
}

/// Tries all of them, and prints what came of each kind.
fn try_all(library: &Path, points: &[Point]) {
    let found = in_parallel(points, |point| {
        let (outcome, wrong) = try_point(library, *point);
        (point.kind(), outcome, wrong)
    });
    found.print();
}

/// What came of many children.
struct Found {
    tally: Tally,
    wrong: Vec<String>,
    took: Duration,
}

impl Found {
    fn print(&self) {
        eprint!("{}", self.tally.table());
        eprintln!(
            "{} tried, {} wrong, in {:.0} s",
            self.tally.total(),
            self.wrong.len(),
            self.took.as_secs_f32()
        );
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// Does `work` for each, on as many threads as there are processors; it answers kind, outcome, and
/// what was wrong.
fn in_parallel<T: Sync>(
    each: &[T],
    work: impl Fn(&T) -> (String, String, Option<String>) + Sync,
) -> Found {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let found: Mutex<(Tally, Vec<String>)> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(one) = each.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let (kind, outcome, wrong) = work(one);
                    let mut found = found.lock().unwrap();
                    found.0.count(kind, outcome);
                    found.1.extend(wrong);
                }
            });
        }
    });
    let (tally, wrong) = found.into_inner().unwrap();
    Found {
        tally,
        wrong,
        took: began.elapsed(),
    }
}
