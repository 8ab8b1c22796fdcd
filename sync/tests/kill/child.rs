//! The process that is killed: it works on the store and says so, line by line, on its output.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidelog::{BlockingTidelog, Tidelog, TidelogBuilder};

use crate::sweep::Random;
use crate::{listeners, projections, transfers};

/// Set for the child: what [`Order::line`] made.
pub const ORDER: &str = "TIDELOG_TEST_KILL_DOMAIN";
/// Stands before everything the child says: the harness writes to the same output.
pub const MARK: &str = "~ ";

/// What a child is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which child of its store it is, from 1.
    pub child: u64,
    pub seed: u64,
    /// Poisoned events up to this position are handled.
    pub healed: u64,
    /// Holds the store and what is made beside it.
    pub root: PathBuf,
}

impl Order {
    pub fn line(&self) -> String {
        let root = self.root.display();
        format!("{} {} {} {root}", self.child, self.seed, self.healed)
    }

    pub fn parse(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        let (child, seed, healed) = (number(), number(), number());
        let root = PathBuf::from(words.next().unwrap());
        Self {
            child,
            seed,
            healed,
            root,
        }
    }
}

pub fn store_in(root: &Path) -> PathBuf {
    root.join("store")
}

/// Tiny segments, so that all of it happens often; every part adds what runs with the store.
pub fn builder(dir: &Path, child: u64, healed: u64) -> TidelogBuilder {
    let builder = Tidelog::builder(dir).segment_size(64 << 10);
    projections::builder(transfers::builder(builder), child, healed)
}

/// Something that a child does now and then.
pub trait Part {
    fn act(&mut self, log: &BlockingTidelog, random: &mut Random);
}

/// Works until it is killed. Where one of its threads fails, the others shall not go on.
pub fn run(order: &Order) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if info
            .location()
            .is_some_and(|at| at.file().contains("tests/kill"))
        {
            std::process::exit(101);
        }
    }));
    let mut random = Random(order.seed);
    loop {
        say("opening");
        let builder = builder(&store_in(&order.root), order.child, order.healed);
        let log = builder.open().unwrap().blocking();
        say("opened");
        let mut parts: Vec<Box<dyn Part>> = vec![
            Box::new(listeners::Working::start(&log, order)),
            Box::new(transfers::Working::start(&log)),
            Box::new(projections::Working::start(order)),
        ];
        for _ in 0..100 {
            let part = random.below(parts.len());
            parts[part].act(&log, &mut random);
            say("did");
            if random.one_in(8) {
                // Lets what runs beside it come to rest.
                std::thread::sleep(Duration::from_micros(random.below(8_000) as u64));
            }
        }
        say("closing");
        drop(parts);
        log.close().unwrap();
    }
}

/// Says one line, with one call.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
