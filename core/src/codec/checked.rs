//! Which types have been read back once in this process.
//!
//! Some serde attributes cannot be seen while writing. So the first value of each kind is decoded
//! and encoded again before its bytes may be recorded; builds with debug assertions do it with
//! every value, because what is hidden may depend on the value.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use super::fault::Fault;

/// What is read back once: a Rust type under one name, revision and encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) rust_type: TypeId,
    pub(super) name: &'static str,
    pub(super) revision: u32,
    pub(super) json: bool,
}

/// Kinds that have passed, each with its name to share: a name is then allocated once a process.
static PASSED: LazyLock<RwLock<HashMap<Kind, Arc<str>>>> = LazyLock::new(RwLock::default);

/// Kinds remembered at most. Programs have some hundreds; one that makes names up at run time
/// pays for it with a check of each, not with memory.
const MAX_KINDS: usize = 1 << 14;

/// The shared name of `kind`, after `bytes` were read back by `again` when that is still to do.
pub(super) fn check(
    kind: Kind,
    bytes: &[u8],
    again: impl FnOnce() -> Result<Vec<u8>, Fault>,
) -> Result<Arc<str>, Fault> {
    let known = PASSED.read().get(&kind).cloned();
    // postcard is not self-describing: a value that differs only in an `Option` or a `Vec` may be the
    // first that cannot be read back, so each is. JSON is checked by its kind.
    if let Some(name) = &known
        && kind.json
        && !cfg!(debug_assertions)
    {
        return Ok(Arc::clone(name));
    }
    let second =
        again().map_err(|fault| Fault::new(format_args!("it could not be read back: {fault}")))?;
    if !same_bytes(bytes, &second) {
        return Err(Fault::new(
            "it is another one when it is read back (serde's skip_serializing or \
             skip_deserializing does that); remove that attribute",
        ));
    }
    if let Some(name) = known {
        return Ok(name);
    }
    let name: Arc<str> = kind.name.into();
    let mut passed = PASSED.write();
    if passed.len() < MAX_KINDS {
        passed.insert(kind, Arc::clone(&name));
    }
    Ok(name)
}

/// Whether the bytes are equal, or the same in another order: a `HashMap` comes back in another.
fn same_bytes(first: &[u8], second: &[u8]) -> bool {
    if first == second {
        return true;
    }
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    first.len() == second.len() && sorted(first) == sorted(second)
}
