//! What is to be repaired: whose it is, where it began, and whether it may be read.

use std::collections::HashMap;
use std::path::Path;

use tidelog_core::{Clock, Error, SystemClock, SystemIds};
use uuid::Uuid;

use super::super::format::{self, Format};
use super::super::frame;
use super::super::open::new_name_key;
use super::super::segment::{Epoch, SegmentHeader};
use super::survey::{Found, Stretch};
use super::{LOG, START, is_unfinished};
use crate::platform;

/// What the first segment says of the epoch it was made in, or the next best.
pub(super) fn first_epoch(files: &[Found], format: &Format, first: Option<&Stretch>) -> Epoch {
    let headers = || files.iter().filter_map(|found| found.header);
    let epochs = headers()
        .filter(|header| header.salt == format.salt)
        .map(|header| header.epoch);
    let begins = first.map(|first| first.begins);
    let is_first = |epoch: &Epoch| match begins {
        Some(begins) if begins.commit == START.commit => {
            frame::genesis(&format.origin, &epoch.id) == begins.previous
        }
        _ => epoch.parent.is_nil(),
    };
    let mut known: Vec<Epoch> = epochs.collect();
    let proven = known.iter().position(is_first).unwrap_or_default();
    if known.is_empty() {
        return Epoch {
            id: Uuid::nil(),
            parent: Uuid::nil(),
            parent_position: 0,
            parent_hash: [0; 32],
        };
    }
    known.swap_remove(proven)
}

/// What stands in `format`; when that is damaged or gone, what the segments agree on.
pub(super) fn identity(from: &Path, files: &[Found]) -> Result<Format, Error> {
    let headers = || files.iter().filter_map(|found| found.header);
    match Format::read(from) {
        Ok(Some(format)) => {
            format.ensure_writable(from)?;
            let ours = |header: &SegmentHeader| {
                (header.origin, header.salt) == (format.origin, format.salt)
            };
            if headers().next().is_some() && !headers().any(|header| ours(&header)) {
                return Err(Error::damaged(
                    from.join(format::FILE),
                    "it belongs to another store than the log",
                    "put the right one back, or take it away: the log says what repair needs",
                ));
            }
            Ok(format)
        }
        Ok(None) | Err(Error::Damaged { .. }) => {
            let Some(header) = most_common(headers()) else {
                return Err(Error::damaged(
                    from.join(format::FILE),
                    "neither it nor any segment's header can be read",
                    "restore the store from a backup",
                ));
            };
            let gaps = headers().any(|header| header.gap.is_some() || header.about.losses);
            let branches = headers().any(|header| header.about.branches);
            Ok(Format {
                version: format::VERSION,
                compatible: 0,
                read_only: 0,
                incompatible: if gaps { format::GAPS } else { 0 }
                    | if branches { format::BRANCHES } else { 0 },
                origin: header.origin,
                salt: header.salt,
                name_key: new_name_key(&SystemIds),
                created: SystemClock.now(),
            })
        }
        Err(other) => Err(other),
    }
}

/// The header whose store most of them belong to: a file of another store may be among them.
fn most_common(headers: impl Iterator<Item = SegmentHeader>) -> Option<SegmentHeader> {
    let mut stores: HashMap<(Uuid, u64), (usize, SegmentHeader)> = HashMap::new();
    for header in headers {
        let store = stores
            .entry((header.origin, header.salt))
            .or_insert((0, header));
        store.0 += 1;
    }
    let most = stores.into_values().max_by_key(|(count, _)| *count);
    most.map(|(_, header)| header)
}

pub(super) fn check_places(from: &Path, to: &Path) -> Result<(), Error> {
    let not = |path: &Path, reason: &str| Error::NotAStore {
        path: path.into(),
        reason: reason.into(),
    };
    if !from.join(LOG).is_dir() {
        return Err(not(from, "there is no log in it; give the damaged store"));
    }
    if is_unfinished(from) {
        let reason = "a repair into it never ended; give the store that was to be repaired";
        return Err(not(from, reason));
    }
    if platform::lies_in(to, from).map_err(|error| Error::io("look at", to, error))? {
        let reason = "it is the damaged store or inside it; give another directory";
        return Err(not(to, reason));
    }
    Ok(())
}
