//! What leads to rows beside their key.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use super::key::{MAX_KEY_BYTES, RowKey, encoded};
use crate::error::Error;

/// Most lookups of a projection.
pub(crate) const MAX_LOOKUPS: usize = 64;

/// Most entries that one row may have in all lookups together.
const MAX_ENTRIES: usize = 64;

/// One way to find rows beside their key: a name, and a function from a row to what it is found by.
///
/// Entries are kept with the rows, in the same step. A raised
/// [`VERSION`](crate::Projection::VERSION) makes them anew; so do lookups of other names.
///
/// ```
/// use tidelog_core::Lookup;
///
/// struct Account { holder: String, tags: Vec<String> }
/// let lookups: Vec<Lookup<u64, Account>> = vec![
///     Lookup::by("holder", |_, account: &Account| Some(account.holder.clone())),
///     Lookup::by("tag", |_, account: &Account| account.tags.clone()),
/// ];
/// assert_eq!(lookups[1].name(), "tag");
/// ```
pub struct Lookup<K, V> {
    name: &'static str,
    key_type: TypeId,
    key_type_name: &'static str,
    of: Arc<Of<K, V>>,
}

type Of<K, V> = dyn Fn(&K, &V) -> Vec<Vec<u8>> + Send + Sync;

impl<K, V> Lookup<K, V> {
    /// Rows are found under `name` by what `of` gives for each: none, one (`Some`), or several.
    /// Whatever is given twice for one row counts once. All lookups of a row together have at most
    /// 64 entries.
    pub fn by<L: RowKey, I: IntoIterator<Item = L>>(
        name: &'static str,
        of: impl Fn(&K, &V) -> I + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            key_type: TypeId::of::<L>(),
            key_type_name: std::any::type_name::<L>(),
            of: Arc::new(move |key, row| of(key, row).into_iter().map(|l| encoded(&l)).collect()),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<K, V> Clone for Lookup<K, V> {
    fn clone(&self) -> Self {
        Self {
            of: Arc::clone(&self.of),
            ..*self
        }
    }
}

impl<K, V> fmt::Debug for Lookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("name", &self.name)
            .field("by", &self.key_type_name)
            .finish_non_exhaustive()
    }
}

/// What every entry of the lookup numbered `number` begins with.
fn prefix(number: usize) -> Vec<u8> {
    // At most MAX_LOOKUPS are taken.
    vec![u8::try_from(number).unwrap_or(u8::MAX)]
}

/// The keys of all entries of one row, sorted, each once.
pub(crate) fn entries_of<K: RowKey, V>(
    lookups: &[Lookup<K, V>],
    key: &K,
    row: &V,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut entries = Vec::new();
    for (number, lookup) in lookups.iter().enumerate() {
        for found_by in (lookup.of)(key, row) {
            if found_by.len() >= MAX_KEY_BYTES {
                let len = found_by.len();
                return Err(Error::too_large("key of a lookup", len, MAX_KEY_BYTES - 1));
            }
            let mut entry = prefix(number);
            entry.extend_from_slice(&found_by);
            key.encode(&mut entry);
            entries.push(entry);
        }
    }
    entries.sort_unstable();
    entries.dedup();
    if entries.len() > MAX_ENTRIES {
        let len = entries.len();
        return Err(Error::too_large(
            "lookup entries of a row",
            len,
            MAX_ENTRIES,
        ));
    }
    Ok(entries)
}

/// What the entries of lookup `name` begin with, whose keys must be of type `L`.
pub(crate) fn prefix_of<K, V, L: RowKey>(
    lookups: &[Lookup<K, V>],
    name: &str,
) -> Result<Vec<u8>, Error> {
    let Some(number) = lookups.iter().position(|lookup| lookup.name == name) else {
        let known: Vec<_> = lookups.iter().map(Lookup::name).collect();
        let reason = format!("the projection has the lookups {known:?}");
        return Err(Error::invalid("lookup", name, reason));
    };
    // It was found a moment ago.
    match lookups.get(number) {
        Some(lookup) if lookup.key_type != TypeId::of::<L>() => {
            let (by, asked) = (lookup.key_type_name, std::any::type_name::<L>());
            let reason = format!("it finds rows by {by}, not by {asked}");
            Err(Error::invalid("lookup", name, reason))
        }
        _ => Ok(prefix(number)),
    }
}

/// What the lookups are called, in one number: rows made with others are made anew.
pub(crate) fn names_hash<K, V>(lookups: &[Lookup<K, V>]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for lookup in lookups {
        hasher.update(lookup.name.as_bytes());
        hasher.update(&[0]);
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Refuses lookups that cannot be told apart.
pub(crate) fn check_lookups<K, V>(lookups: &[Lookup<K, V>]) -> Result<(), Error> {
    if lookups.len() > MAX_LOOKUPS {
        let len = lookups.len();
        return Err(Error::too_large(
            "lookups of a projection",
            len,
            MAX_LOOKUPS,
        ));
    }
    for (number, lookup) in lookups.iter().enumerate() {
        if lookup.name.contains('\0') {
            return Err(Error::invalid(
                "lookup",
                lookup.name,
                "it holds a zero byte",
            ));
        }
        if lookups.iter().take(number).any(|l| l.name == lookup.name) {
            return Err(Error::invalid("lookup", lookup.name, "there are two of it"));
        }
    }
    Ok(())
}
