//! Publishing behind a replica.

use std::thread;
use std::time::Duration;

use tempfile::tempdir;
use tidelog::{DistributedConfig, KeyspaceReplication, ScyllaConfig};

use crate::proxy::Proxy;
use crate::stores::{self, Shop};
use crate::{plain, services};

#[test]
fn nothing_is_published_before_the_replica_has_accepted_it() {
    let (Some(kafka), Some(scylla)) = (services::kafka(), services::scylla()) else {
        return;
    };
    let (shop, proxy) = (Shop::new("gated", kafka, 2), Proxy::start(&scylla));
    let keyspace = plain::keyspace("gated");
    let replica = ScyllaConfig::new([proxy.address()])
        .keyspace(&keyspace)
        .replication(KeyspaceReplication::Simple(1))
        .migrate_at_connect()
        .request_timeout(Duration::from_secs(6));
    let config = DistributedConfig::new()
        .scylla(replica)
        .kafka(shop.config());
    let dir = tempdir().unwrap();
    let log = stores::open(dir.path(), config);
    for number in 0..50 {
        stores::append(&log, &stores::stream(number % 10), b"accepted".to_vec());
    }
    stores::level(&log);
    assert_eq!(shop.has_all_of(&log).events(), 50);

    proxy.blackhole(true);
    for number in 0..50 {
        stores::append(&log, &stores::stream(number % 10), b"held back".to_vec());
    }
    // Long enough for each of them to be published a hundred times.
    thread::sleep(Duration::from_secs(3));
    let status = log.publishing().status();
    assert_eq!((status.available, status.settled), (50, 50), "{status:?}");
    assert_eq!(shop.seen().events(), 50);

    proxy.blackhole(false);
    stores::level(&log);
    let seen = shop.has_all_of(&log);
    assert_eq!((seen.events(), seen.wrong.len()), (100, 0));
    assert!(log.replication().status().settled >= 100);
    log.close().unwrap();
    shop.forget();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session = plain::session(&scylla).await;
        plain::drop_keyspace(&session, &keyspace).await;
    });
}
