//! Follows a record step by step to the events of today.

use crate::codec::RecordedEvent;
use crate::error::Error;

use super::upcasters::{Step, Upcasters};

/// Steps after each other at most: more is a circle.
const MAX_STEPS: usize = 64;
/// Steps of one record at most, all its parts taken together.
const MAX_WORK: usize = 10_000;

impl Upcasters {
    /// Whether a record of this type and revision is read as anything but what it is.
    pub(crate) fn concern(&self, event_type: &str, revision: u32) -> bool {
        self.find(event_type, revision).is_some()
    }

    /// Calls `read` with each event of today that `recorded` leads to, in order.
    pub(crate) fn follow(
        &self,
        recorded: &RecordedEvent<'_>,
        read: &mut dyn FnMut(&RecordedEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut walk = Walk {
            upcasters: self,
            from: recorded,
            path: Vec::new(),
            work: 0,
            read,
        };
        walk.go(recorded)
    }
}

struct Walk<'w, 'r> {
    upcasters: &'w Upcasters,
    from: &'w RecordedEvent<'r>,
    /// What was gone through on the way to where it stands.
    path: Vec<(String, u32)>,
    work: usize,
    read: &'w mut dyn FnMut(&RecordedEvent<'_>) -> Result<(), Error>,
}

impl Walk<'_, '_> {
    fn go(&mut self, recorded: &RecordedEvent<'_>) -> Result<(), Error> {
        let (event_type, revision) = (recorded.event_type, recorded.revision);
        let Some(step) = self.upcasters.find(event_type, revision) else {
            return (self.read)(recorded).map_err(|error| self.say_from(error, recorded));
        };
        self.path.push((event_type.to_owned(), revision));
        self.check_bounds()?;
        match step {
            Step::Rename(to) => self.go(&recorded.read_as(to, revision, recorded.payload))?,
            Step::Become(parts_of) => {
                let parts = parts_of(recorded).map_err(|error| self.say_from(error, recorded))?;
                for part in parts {
                    let payload = part
                        .encode(recorded.content_type)
                        .map_err(|error| self.say_from(error, recorded))?;
                    let mut made = recorded.read_as(part.event_type, part.revision, &payload);
                    made.made = true;
                    self.go(&made)?;
                }
            }
            Step::Twice => {
                return Err(self.from.refuse(format_args!(
                    "{event_type} revision {revision} has two upcasters; leave one"
                )));
            }
        }
        self.path.pop();
        Ok(())
    }

    fn check_bounds(&mut self) -> Result<(), Error> {
        self.work += 1;
        let here = self.path.last();
        let circle = self.path.iter().position(|place| Some(place) == here);
        if let Some(start) = circle
            && start + 1 < self.path.len()
        {
            let places = self.path[start..].iter();
            let names: Vec<String> = places.map(|(of, at)| format!("{of} {at}")).collect();
            return Err(self.from.refuse(format_args!(
                "its upcasters go round in a circle ({}); let one of them lead out",
                names.join(" → ")
            )));
        }
        if self.path.len() > MAX_STEPS || self.work > MAX_WORK {
            return Err(self.from.refuse(format_args!(
                "its upcasters take more than {MAX_STEPS} steps after each other or {MAX_WORK} in \
                 all; shorten the way"
            )));
        }
        Ok(())
    }

    /// The error of a later step, about the record as it stands in the log.
    fn say_from(&self, error: Error, at: &RecordedEvent<'_>) -> Error {
        match error {
            Error::Codec { reason, what, .. }
                if (self.from.event_type, self.from.revision) != (at.event_type, at.revision) =>
            {
                self.from.refuse(format_args!(
                    "upcast to {} revision {}: {what}: {reason}",
                    at.event_type, at.revision
                ))
            }
            other => other,
        }
    }
}
