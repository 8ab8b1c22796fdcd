//! Threads, locks, atomics and answers of the embedded store.
//!
//! Normally they are std's, `parking_lot`'s and `oneshot`'s. In unit tests with the feature
//! `shuttle` they are those of that crate, which lets the models in `sled/models/` run the store's
//! own code through thousands of interleavings.

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod modelled;

#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use {
    ::oneshot,
    parking_lot::{Condvar, Mutex, MutexGuard, RwLock},
    pollster::block_on,
    std::{sync::atomic, thread},
};

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use {
    modelled::{Condvar, Mutex, MutexGuard, RwLock, oneshot},
    shuttle::{future::block_on, sync::atomic, thread},
};
