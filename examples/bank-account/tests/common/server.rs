//! What stands at the server of a replica, by plain CQL.

use tidelog_backends::scylla_driver::client::session::Session;

use bank_account::query::TotalsAnswer;

/// A varint as postcard writes it, and what follows.
fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    let value = number
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 7) | u64::from(byte & 0x7f));
    (value, rest)
}

/// The sums of all accounts, as the payloads at the server have them.
pub async fn totals(session: &Session, keyspace: &str) -> TotalsAnswer {
    use futures_util::TryStreamExt as _;
    let text = format!(
        "SELECT event_type, payload FROM {keyspace}.events_by_stream WHERE aggregate_type = 'BankAccount' ALLOW FILTERING"
    );
    let rows = session.query_iter(text, ()).await.unwrap();
    let mut rows = rows.rows_stream::<(String, Vec<u8>)>().unwrap();
    let mut totals = TotalsAnswer::default();
    while let Some((kind, payload)) = rows.try_next().await.unwrap() {
        if kind == "Opened" {
            totals.accounts += 1;
        } else {
            let (cents, rest) = varint(&payload);
            totals.deposits += 1;
            totals.deposited_cents += cents;
            totals.cds += varint(rest).0;
        }
    }
    totals
}
