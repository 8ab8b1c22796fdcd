//! Long work: how far it is, and how it is ended.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tidelog::{Phase, Progress, ProgressCallback};

use crate::error::{CliError, STOPPED};

/// Ended by Ctrl-C, SIGTERM or SIGHUP: between two steps, or at once where the work has no steps.
#[derive(Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    bar: ProgressBar,
}

/// What ends with the process at once.
struct AtOnce {
    remove: Mutex<Option<PathBuf>>,
    say: &'static str,
}

impl Stop {
    /// The work asks now and then whether to go on; who asks twice does not wait for that.
    pub fn between_steps() -> Self {
        Self::asked(Self::new())
    }

    /// The same, and nothing shows how far it is: the answer itself comes to the terminal.
    pub fn unseen() -> Self {
        Self::asked(Self {
            asked: Arc::default(),
            bar: ProgressBar::hidden(),
        })
    }

    fn asked(stop: Self) -> Self {
        let asked = Arc::clone(&stop.asked);
        on_signal(move || {
            if asked.swap(true, Ordering::SeqCst) {
                std::process::exit(STOPPED.into());
            }
        });
        stop
    }

    /// The process ends at once, with `remove` taken away and `say` said.
    pub fn at_once(remove: PathBuf, say: &'static str) -> Self {
        let stop = Self::new();
        let bar = stop.bar.clone();
        let what = AtOnce {
            remove: Mutex::new(Some(remove)),
            say,
        };
        on_signal(move || {
            bar.finish_and_clear();
            let remove = what.remove.lock().ok().and_then(|mut remove| remove.take());
            if let Some(scratch) = remove {
                // What cannot be removed lies in the folder for what may go.
                let _ = std::fs::remove_dir_all(scratch);
            }
            // Who hears nothing any more is told nothing.
            let _ = writeln!(io::stderr(), "error: stopped; {}", what.say);
            std::process::exit(STOPPED.into());
        });
        stop
    }

    fn new() -> Self {
        // On stderr, and nothing where that is no terminal.
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            asked: Arc::default(),
            bar,
        }
    }

    /// What the library calls.
    pub fn callback(&self) -> ProgressCallback {
        let stop = self.clone();
        Arc::new(move |progress| stop.told(progress))
    }

    pub fn told(&self, progress: Progress) -> ControlFlow<()> {
        let what = match progress.phase {
            Phase::Replay => "opening",
            Phase::Rebuild => "rebuilding the index",
            Phase::Verify => "verifying",
            Phase::Backup => "backing up",
            Phase::Restore => "restoring",
            Phase::Repair => "repairing",
            Phase::Projections => "catching up",
            _ => "working",
        };
        self.show_again();
        if self.bar.length().is_none() {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}");
            // The template is constant; if it were wrong, the plain spinner would do.
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        self.bar.set_message(what);
        self.go_on()
    }

    /// So much is done, of work whose end is not known.
    pub fn counted(&self, what: &'static str, done: u64) -> ControlFlow<()> {
        self.show_again();
        self.bar.set_message(format!("{what} {done}"));
        self.go_on()
    }

    /// What follows a part that has ended is shown, too.
    fn show_again(&self) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.asked.load(Ordering::SeqCst) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The bar is gone.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    /// The same; what was answered, with what to do where it was ended.
    pub fn end<T>(
        &self,
        answer: Result<T, impl Into<CliError>>,
        next: &str,
    ) -> Result<T, CliError> {
        self.done();
        answer.map_err(|error| error.into().stopped(next))
    }
}

fn on_signal(act: impl FnMut() + Send + 'static) {
    // Where no handler can be set, the process ends as any other does.
    let _ = ctrlc::set_handler(act);
}
