//! Queries and the read models that answer them.

use std::future::Future;
use std::ops::RangeBounds;

use crate::error::Error;

/// Answers one kind of question from a read model.
///
/// ```
/// use tidelog_core::{Error, QueryHandler, Repository};
///
/// struct BalanceOf(String);
/// struct Balances<R>(R);
///
/// impl<R: Repository<String, u64>> QueryHandler<BalanceOf> for Balances<R> {
///     type Answer = Option<u64>;
///     type Error = Error;
///     async fn handle(&self, query: BalanceOf) -> Result<Option<u64>, Error> {
///         self.0.get(&query.0).await
///     }
/// }
/// ```
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
///
/// ```
/// use tidelog_core::{Error, Repository};
///
/// async fn deposit(balances: &impl Repository<String, u64>, id: &str, cents: u64) -> Result<(), Error> {
///     let before = balances.get(&id.to_owned()).await?.unwrap_or(0);
///     balances.put(id.to_owned(), before + cents).await
/// }
/// ```
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
