//! The process that damages stores and looks at them, image after image. On its own, so that a hang
//! or an abort is seen as what it is.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tidelog_core::Error;

use crate::damage;
use crate::image::{End, Image, open};
use crate::look::examine;
use crate::sweep::Random;
use crate::tools;

/// Set for the worker: what [`Order::line`] made.
pub const ORDER: &str = "TIDELOG_TEST_CORRUPTION";
/// Stands before everything the worker says: the harness writes to the same output.
pub const MARK: &str = "~ ";

#[derive(Clone, Debug)]
pub enum Order {
    /// The images with these numbers.
    Images { seed: u64, from: u64, to: u64 },
    /// Open what an abort has left.
    Heal(PathBuf),
}

impl Order {
    pub fn line(&self) -> String {
        match self {
            Self::Images { seed, from, to } => format!("images {seed} {from} {to}"),
            Self::Heal(dir) => format!("heal {}", dir.display()),
        }
    }

    fn parse(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "heal" {
            return Self::Heal(rest.into());
        }
        let mut numbers = rest.split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Self::Images {
            seed: next(),
            from: next(),
            to: next(),
        }
    }
}

/// Where threads panicked, and what they said.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn run(order: &str) {
    match Order::parse(order) {
        Order::Images { seed, from, to } => examine_images(seed, from, to),
        Order::Heal(dir) => heal(&dir),
    }
}

/// Says one line, with one call.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn examine_images(seed: u64, from: u64, to: u64) {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let payload = info.payload();
        let said = payload.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
        let text = format!("{place}, thread {thread}: {}", said.unwrap_or_default());
        if !is_sleds(&text) {
            eprintln!("{text}");
        }
        PANICS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }));
    let mut images: [Option<Image>; 6] = [const { None }; 6];
    for number in from..to {
        let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9));
        let end = random.below(End::ALL.len());
        let image = images[end].get_or_insert_with(|| Image::rich(End::ALL[end]));
        let dir = image.dir();
        tools::put_back(&image.files, &dir);
        let done = damage::apply(image, &dir, &mut random);
        let texts: Vec<_> = done
            .iter()
            .map(|one| format!("{} {} ({})", one.target, one.kind, one.text))
            .collect();
        say(&format!(
            "begin {number} {:?} {}",
            image.end,
            texts.join(" and ")
        ));
        say(&format!("in {}", dir.display()));
        let reads_first = random.one_in(2);
        let examined = catch_unwind(AssertUnwindSafe(|| {
            examine(image, &dir, reads_first, |step| {
                say(&format!("step {step}"));
            })
        }));
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        let (ours, sleds): (Vec<_>, Vec<_>) = panics.into_iter().partition(|text| !is_sleds(text));
        for text in &sleds {
            say(&format!("sled {text}"));
        }
        let label = match &done[..] {
            [one] => format!("{}: {}", one.target, one.kind),
            _ => "two at once".into(),
        };
        match examined {
            Ok(verdict) if ours.is_empty() => {
                say(&format!(
                    "end {number} {}|{label}|{}",
                    verdict.gone, verdict.outcome
                ));
            }
            _ => say(&format!(
                "wrong {number} {}",
                ours.join(" / ").replace('\n', " ")
            )),
        }
    }
    say("done");
}

/// sled asserts what a damaged file does not hold; the index catches that.
fn is_sleds(panic: &str) -> bool {
    panic.contains("sled-0.34") || panic.contains("thread tidelog-index-open")
}

fn heal(dir: &Path) {
    match open(dir) {
        Ok(store) => {
            store.verify().unwrap();
            store.close_blocking().unwrap();
        }
        Err(Error::Damaged { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    say("done");
}
