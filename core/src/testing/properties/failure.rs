//! A promise that is not kept, and how it is told.

use std::fmt::{self, Debug};

/// What does not hold, and where.
pub(super) struct Broken {
    what: String,
    scenario: Option<String>,
}

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            scenario: None,
        }
    }

    /// The same, in this state of the aggregate, with this command.
    pub(super) fn at<E: Debug, C: Debug>(
        mut self,
        aggregate: &str,
        events: &[E],
        command: &C,
    ) -> Self {
        let begin = match events {
            [] => "::new()".to_owned(),
            events => format!("::given({events:#?})"),
        };
        self.scenario = Some(format!(
            "Scenario::<{aggregate}>{begin}\n.when({command:#?})"
        ));
        self
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(scenario) = &self.scenario {
            write!(f, "\nas a scenario:")?;
            for line in scenario.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}
