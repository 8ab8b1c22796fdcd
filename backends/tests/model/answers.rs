//! What counts as the same answer.

use std::fmt::Debug;

use tidelog_core::Error;

pub type Checked = Result<(), String>;

pub fn text(error: Error) -> String {
    error.to_string()
}

pub fn said(done: Result<(), Error>) -> Checked {
    done.map_err(text)
}

pub fn expect_eq<T: PartialEq + Debug>(what: &str, ours: T, expected: T) -> Checked {
    if ours == expected {
        Ok(())
    } else {
        Err(format!("{what}: {ours:?}, expected {expected:?}"))
    }
}

/// Both answered the same: equal values, or errors of one code with equal fields.
pub fn same<T: PartialEq + Debug>(ours: Result<T, Error>, model: Result<T, Error>) -> Checked {
    let equal = match (&ours, &model) {
        (Ok(ours), Ok(model)) => ours == model,
        (Err(ours), Err(model)) => same_error(ours, model),
        _ => false,
    };
    if equal {
        return Ok(());
    }
    let cut = |text: String| text.chars().take(2_000).collect::<String>();
    let (ours, model) = (cut(format!("{ours:?}")), cut(format!("{model:?}")));
    Err(format!("the store answered {ours}\nthe model {model}"))
}

fn same_error(ours: &Error, model: &Error) -> bool {
    match (ours, model) {
        (
            Error::WrongVersion {
                stream,
                expected,
                actual,
            },
            Error::WrongVersion {
                stream: of,
                expected: asked,
                actual: found,
            },
        ) => (stream, expected, actual) == (of, asked, found),
        // Which of several clashing ids is named, and in which words, is free.
        (Error::IdConflict { stream, .. }, Error::IdConflict { stream: of, .. }) => stream == of,
        (
            Error::TooLarge { what, size, limit },
            Error::TooLarge {
                what: of,
                size: found,
                limit: set,
            },
        ) => (what, size, limit) == (of, found, set),
        (
            Error::InvalidInput { what, value, .. },
            Error::InvalidInput {
                what: of, value: v, ..
            },
        ) => (what, value) == (of, v),
        _ => ours.code() == model.code(),
    }
}
