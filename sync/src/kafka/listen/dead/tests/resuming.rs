//! Who asks for a key, and who hears of it.

use super::*;

#[test]
fn every_member_hears_what_happens_to_the_set() {
    let Some(group) = Group::new("heard") else {
        return;
    };
    let (member, (other, heard)) = (group.join(), group.dead());
    assert_eq!(block_on(other.parked_set()).unwrap(), []);
    assert_eq!(member.set(), []);
    let next = || match heard.recv_timeout(PATIENCE).unwrap() {
        Heard::Changed(changed) => changed,
        Heard::Trouble(error) => panic!("{error}"),
    };
    let places = member.park(group.parking(0, "a", 1)).unwrap();
    let mut entry = group.parked(0, "a", 1);
    entry.letter = Some(places[0]);
    assert_eq!(member.hears(), Changed::Parked(entry.clone()));
    assert_eq!(next(), Changed::Parked(entry.clone()));

    let key = entry.key.clone();
    block_on(other.ask(key.clone(), Asked::Skip)).unwrap();
    assert_eq!(member.hears(), Changed::Asked(key.clone(), Asked::Skip));
    assert_eq!(next(), Changed::Asked(key.clone(), Asked::Skip));
    assert_eq!(member.set()[0].asked, Some(Asked::Skip));

    // It failed again: what was asked is over.
    entry.attempts += 1;
    let again = Parking {
        parked: vec![entry.clone()],
        offsets: vec![(group.place(0), 2)],
        ..Parking::default()
    };
    member.park(again).unwrap();
    assert_eq!(next(), Changed::Parked(entry.clone()));
    assert_eq!(member.set(), [entry]);

    let resumed = Parking {
        resumed: vec![key.clone()],
        offsets: vec![(group.place(0), 2)],
        ..Parking::default()
    };
    member.park(resumed).unwrap();
    assert_eq!(next(), Changed::Resumed(key));
}

#[test]
fn who_resumes_from_outside_is_told_what_came_of_it() {
    let Some(group) = Group::new("outside") else {
        return;
    };
    let (member, (outside, _heard)) = (group.join(), group.dead());
    let key = group.key(0, "a");
    let none = block_on(outside.resume(key.clone(), Asked::Resume, PATIENCE));
    assert!(matches!(none, Err(Error::InvalidInput { .. })), "{none:?}");

    assert_eq!(member.set(), []);
    let places = member.park(group.parking(0, "a", 1)).unwrap();
    let mut entry = group.parked(0, "a", 1);
    entry.letter = Some(places[0]);
    assert_eq!(member.hears(), Changed::Parked(entry.clone()));

    let nobody = block_on(outside.resume(key.clone(), Asked::Resume, Duration::ZERO));
    let Err(Error::Parked { stream, reason, .. }) = nobody else {
        panic!("{nobody:?}")
    };
    assert_eq!(stream.to_string(), "Order/a");
    assert!(reason.contains("no member"), "{reason}");

    std::thread::scope(|scope| {
        let asked = Changed::Asked(key.clone(), Asked::Resume);
        // What was asked before stays asked.
        assert_eq!(member.hears(), asked);
        let again = scope.spawn(|| block_on(outside.resume(key.clone(), Asked::Resume, PATIENCE)));
        assert_eq!(member.hears(), asked);
        entry.reason = "still broken".into();
        let failed = Parking {
            parked: vec![entry.clone()],
            offsets: vec![(group.place(0), 2)],
            ..Parking::default()
        };
        // Only what it has read is taken back.
        assert_eq!(member.set()[0].asked, Some(Asked::Resume));
        member.park(failed).unwrap();
        let again = again.join().unwrap();
        let Err(Error::Parked { reason, .. }) = again else {
            panic!("{again:?}")
        };
        assert_eq!(&*reason, "still broken");

        assert_eq!(member.hears(), Changed::Parked(entry));
        let again = scope.spawn(|| block_on(outside.resume(key.clone(), Asked::Resume, PATIENCE)));
        assert_eq!(member.hears(), asked);
        let resumed = Parking {
            resumed: vec![key.clone()],
            offsets: vec![(group.place(0), 2)],
            ..Parking::default()
        };
        member.park(resumed).unwrap();
        again.join().unwrap().unwrap();
    });
    assert_eq!(member.set(), []);
}
