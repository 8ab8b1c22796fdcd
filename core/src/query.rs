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

/// Rows by key, in key order: what queries ask.
///
/// A read model is one; nobody can write it, so it cannot drift from the events. Rows that are
/// written by hand are an [`EditableRepository`].
///
/// ```
/// use std::ops::Bound;
/// use tidelog_core::{Error, Repository};
///
/// /// All rows, a page at a time.
/// async fn total(balances: &impl Repository<String, u64>) -> Result<u64, Error> {
///     let (mut total, mut after) = (0, Bound::Unbounded);
///     loop {
///         let page = balances.scan((after, Bound::Unbounded), 100).await?;
///         let Some((last, _)) = page.last() else { return Ok(total) };
///         after = Bound::Excluded(last.clone());
///         total += page.iter().map(|(_, cents)| cents).sum::<u64>();
///     }
/// }
/// ```
pub trait Repository<K, V>: Send + Sync
where
    K: Ord + Clone + Send,
    V: Clone + Send,
{
    /// The row under `key`.
    fn get(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send;

    /// At most `limit` rows with keys in `range`, in key order. The next page begins after the
    /// last key of this one.
    fn scan(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(K, V)>, Error>> + Send;

    /// At most `limit` rows with keys in `range`, from the last key downwards.
    fn scan_back(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(K, V)>, Error>> + Send;
}

/// Rows that are written by hand, not by a projection. Where they stand, and what they survive, is
/// the implementation's to say.
///
/// ```
/// use tidelog_core::{EditableRepository, Error};
///
/// async fn count(visits: &impl EditableRepository<String, u64>, page: &str) -> Result<(), Error> {
///     let before = visits.get(&page.to_owned()).await?.unwrap_or(0);
///     visits.put(page.to_owned(), before + 1).await
/// }
/// ```
pub trait EditableRepository<K, V>: Repository<K, V>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
{
    /// Puts `row` under `key`, replacing what was there.
    fn put(&self, key: K, row: V) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes the row under `key` away and returns it.
    fn remove(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send;
}
