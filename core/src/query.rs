//! Queries and the read models that answer them.

use std::future::Future;
use std::ops::RangeBounds;

use crate::error::Error;

/// Answers one kind of question from a read model.
///
/// See the bank account example for one over a [`Repository`].
pub trait QueryHandler<Q>: Send + Sync {
    /// The answer.
    type Answer;
    /// Why there is none.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Answers `query`.
    fn handle(&self, query: Q) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;
}

/// Rows of a read model by key, ordered by the keys' bytes.
///
/// A read model can always be made anew from the events; it is never the truth.
pub trait Repository<K, V>: Send + Sync
where
    K: Ord + Clone + Send,
    V: Clone + Send,
{
    /// The row under `key`.
    fn get(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send;

    /// Puts `row` under `key`, replacing what was there.
    fn put(&self, key: K, row: V) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes the row under `key` away and returns it.
    fn remove(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send;

    /// At most `limit` rows with keys in `range`, in key order.
    fn scan(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(K, V)>, Error>> + Send;
}
