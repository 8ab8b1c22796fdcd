//! A panic of foreign code (a clock, a waker, a progress callback) or of our own becomes an error
//! where nobody else would notice that it happened.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidelog_core::Error;

/// What `work` answers, or [`Error::Engine`] with the panic's message.
///
/// Whatever `work` was changing is left as it was at the panic: the caller must not use it further.
pub(crate) fn caught<T>(
    engine: &'static str,
    action: &'static str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = format!("panicked: {}", message(&*panic));
        Err(Error::Engine {
            engine,
            action,
            source: Arc::new(io::Error::other(message)),
        })
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        for panics in [|| panic!("as it {}", "is"), || panic!("as it is")] {
            let caught: Result<(), Error> = caught("the clock", "tell the time", panics);
            let error = caught.unwrap_err().to_string();
            assert!(
                error.contains("the clock failed to tell the time"),
                "{error}"
            );
            assert!(error.contains("panicked: as it is"), "{error}");
        }
        assert_eq!(caught("the clock", "tell the time", || Ok(7)).unwrap(), 7);
    }
}
