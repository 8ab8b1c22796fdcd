//! Which events are meant.

use std::collections::VecDeque;

use clap::Args;
use tidelog::{
    Clock, Error, EventEnvelope, LogQuery, LogReader, RecordKind, StreamId, SystemClock, Timestamp,
};

/// Conditions, each of which narrows further.
#[derive(Debug, Default, Args)]
pub struct Selection {
    /// Only this stream, type/id.
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    stream: Option<StreamId>,
    /// Only of aggregates of this type.
    #[arg(long, value_name = "TYPE")]
    aggregate_type: Option<String>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events with this tag, key:value; several times: with all of them.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only events that happened then or later: 2026-11-26T07:00:00Z, 2026-11-26, or 90m, 2h, 3d ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only events that happened before then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// --since and --until mean when events were recorded.
    #[arg(long)]
    recorded: bool,
    /// Only from this position on.
    #[arg(long, value_name = "POSITION", default_value_t = 1)]
    from: u64,
    /// Only up to this position.
    #[arg(long, value_name = "POSITION", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// The store's own records as well.
    #[arg(long)]
    control: bool,
    /// Events that gave way to another store's as well.
    #[arg(long)]
    superseded: bool,
}

/// An event that was selected, and where it gave way.
pub type Selected = (EventEnvelope, Option<u64>);

impl Selection {
    /// What is meant of `log` from position `from` on, oldest first. It ends behind an error.
    pub fn read<'a>(
        &'a self,
        log: &'a LogReader,
        from: u64,
    ) -> impl Iterator<Item = Result<Selected, Error>> + 'a {
        self.between(log, self.from.max(from), self.to)
    }

    fn between<'a>(
        &'a self,
        log: &'a LogReader,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = Result<Selected, Error>> + 'a {
        let records = log.read(LogQuery::from(from).to(to));
        records.filter_map(move |read| match read {
            Ok(event) if !self.selects(&event) => None,
            Ok(event) => {
                let at = log.superseded_at(&event);
                (at.is_none() || self.superseded).then_some(Ok((event, at)))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// The newest `most` that are meant, oldest first, and the error that reading ended with: what stands
    /// before damage is not newer than what stands behind it.
    pub fn newest(&self, log: &LogReader, most: usize) -> (Vec<Selected>, Option<Error>) {
        let end = log.last_position().min(self.to);
        let first = self.from.max(log.first_position());
        let at_the_end = log.damage().filter(|_| self.to > log.last_position());
        let mut newest = VecDeque::new();
        let mut step = 1;
        while newest.len() < most {
            let from = (end + 1).saturating_sub(step).max(first);
            let mut found = VecDeque::new();
            for read in self.between(log, from, end) {
                match read {
                    Ok(selected) => found.push_back(selected),
                    Err(error) => return (newest.into(), Some(error)),
                }
                if found.len() > most {
                    found.pop_front();
                }
            }
            newest = found;
            if from <= first {
                break;
            }
            step = step.saturating_mul(4);
        }
        (newest.into(), at_the_end.cloned())
    }

    /// Whether nothing behind this position is meant.
    pub fn ends_at(&self, position: u64) -> bool {
        position >= self.to
    }

    fn selects(&self, event: &EventEnvelope) -> bool {
        let time = if self.recorded {
            event.recorded_time
        } else {
            event.event_time
        };
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        (self.control || event.kind != RecordKind::Control)
            && self
                .stream
                .as_ref()
                .is_none_or(|wanted| *wanted == event.stream)
            && is(self.aggregate_type.as_deref(), event.aggregate_type())
            && is(self.event_type.as_deref(), &event.event_type)
            && self.tags.iter().all(|tag| event.tags.contains(tag))
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
    }
}

/// A stream by its name, also one of the store's own.
pub fn stream(name: &str) -> Result<StreamId, String> {
    let (of, id) = name.split_once('/').ok_or("write it type/id")?;
    StreamId::new_reserved(of, id).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    let ago = text.split_at_checked(text.len().saturating_sub(1));
    let ago = ago.and_then(|(number, unit)| {
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u32>().ok().map(|n| i64::from(n) * seconds)
    });
    if let Some(seconds) = ago {
        let now = SystemClock.now().as_micros();
        return Ok(Timestamp::from_micros(
            now.saturating_sub(seconds * 1_000_000),
        ));
    }
    let is_day = text.len() == 10 && !text.contains('T');
    let whole = if is_day {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let hint = "write 2026-11-26T07:00:00Z, 2026-11-26, or 90m, 2h, 3d for so long ago";
    whole.parse().map_err(|_| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_days_or_so_long_ago() {
        let noon = time("1997-01-01T12:00:00Z").unwrap();
        assert_eq!(
            time("1997-01-01").unwrap(),
            Timestamp::from_micros(noon.as_micros() - 43_200_000_000)
        );
        let hour = time("1h").unwrap().as_micros() - time("2h").unwrap().as_micros();
        assert!((3_599_000_000..=3_600_000_000).contains(&hour));
        for wrong in ["", "yesterday", "5x", "1997-13-01"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
