//! Topics that are missing, and how they come to be.

use super::*;

#[test]
fn a_topic_that_is_missing_is_named() {
    let Some(address) = services::kafka() else {
        return;
    };
    let group = Group::without_topics("missing", address);
    let DeadTopics { letters, parked } = group.topics();
    let member = group.join();
    let set = block_on(member.dead.parked_set());
    assert!(
        matches!(&set, Err(FeedError::NoTopic(topic)) if *topic == parked),
        "{set:?}"
    );
    topics::create(&group.address, &parked, 1, &[("cleanup.policy", "compact")]);
    assert_eq!(member.set(), []);
    let written = member.park(group.parking(0, "a", 0));
    assert!(
        matches!(&written, Err(FeedError::NoTopic(topic)) if *topic == letters),
        "{written:?}"
    );
    assert_eq!(group.committed(), BTreeMap::new());
    topics::create(&group.address, &letters, 1, &[]);
    member.park(group.parking(0, "a", 0)).unwrap();
    assert_eq!(member.set().len(), 1);
}

#[test]
fn topics_are_made_once_and_left_alone() {
    let Some(group) = Group::new("ensured") else {
        return;
    };
    let DeadTopics { letters, parked } = group.topics();
    let spec = TopicSpec::new(9, 1);
    let report = block_on(group.topics().ensure(group.connection(), spec)).unwrap();
    assert_eq!((report.created.len(), report.found.len()), (0, 2));
    assert_eq!(report.differs.len(), 1, "{report:?}");
    assert_eq!(topics::partitions(&group.address, &letters), Some(3));
    assert_eq!(topics::partitions(&group.address, &parked), Some(1));
}
