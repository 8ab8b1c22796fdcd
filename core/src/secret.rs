//! Text that is never shown.

use std::fmt;

use zeroize::Zeroizing;

/// Text that no `Debug`, `Display` or error shows: a password, a private key. Zeroed when dropped.
///
/// ```
/// use tidelog_core::Secret;
/// let password = Secret::new("correct horse");
/// assert_eq!(format!("{password:?}"), "Secret(..)");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the secret blacked out.
    pub fn scrub(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(self.0.as_str(), "***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_blacked_out_wherever_it_stands() {
        let secret = Secret::new("pass");
        assert_eq!(secret.scrub("a pass, passpass"), "a ***, ******");
        assert_eq!(Secret::new("").scrub("untouched"), "untouched");
        assert!(!format!("{secret:?} {secret:#?}").contains("pass"));
    }
}
