//! Letters, entries and offsets in one.

use super::*;

#[test]
fn letters_entries_and_offsets_are_there_together() {
    let Some(group) = Group::new("together") else {
        return;
    };
    let member = group.join();
    assert_eq!(member.set(), []);
    let mut change = group.parking(0, "a", 4);
    change.letters.push(group.letter(0, "a", 6));
    let more = group.parking(1, "b", 0);
    change.letters.extend(more.letters);
    change.parked.extend(more.parked);
    change.offsets = vec![(group.place(0), 7), (group.place(1), 1)];
    let places = member.park(change).unwrap();
    assert_eq!(places[0].partition, places[1].partition);
    assert_eq!(group.committed(), BTreeMap::from([(0, 7), (1, 1)]));

    let set = member.set();
    assert_eq!(set.len(), 2);
    let found = |key: &RecordKey| set.iter().find(|parked| parked.key == *key).unwrap();
    let a = found(&group.key(0, "a"));
    assert_eq!(a.letter, Some(places[0]));
    assert_eq!(found(&group.key(1, "b")).letter, Some(places[2]));

    let page = member.letters(a.key.clone(), places[0]).unwrap();
    let expected = [
        (places[0], group.letter(0, "a", 4)),
        (places[1], group.letter(0, "a", 6)),
    ];
    assert_eq!(page.letters, expected);
    let rest = member.letters(a.key.clone(), page.next).unwrap();
    assert_eq!((rest.letters, rest.next), (vec![], page.next));

    // Taken in again: nothing is left of it in the set, and others are.
    let resumed = Parking {
        resumed: vec![a.key.clone()],
        offsets: vec![(group.place(0), 7)],
        ..Parking::default()
    };
    member.park(resumed).unwrap();
    let set = member.set();
    assert_eq!(set.len(), 1);
    assert_eq!(set[0].key, group.key(1, "b"));
}

#[test]
fn records_without_a_key_stay_in_order() {
    let Some(group) = Group::new("keyless") else {
        return;
    };
    let member = group.join();
    let keyless = |offset| {
        let mut letter = group.letter(1, "", offset);
        letter.record.key = None;
        letter
    };
    let mut change = group.parking(1, "", 0);
    change.parked[0].key.key = None;
    change.letters = (0..20).map(keyless).collect();
    let places = member.park(change).unwrap();
    let key = RecordKey {
        place: group.place(1),
        key: None,
    };
    let page = member.letters(key, places[0]).unwrap();
    let offsets: Vec<_> = page
        .letters
        .iter()
        .map(|(_, letter)| letter.record.offset)
        .collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_member_that_lost_its_place_parks_nothing() {
    let Some(group) = Group::new("zombie") else {
        return;
    };
    let zombie = group.join();
    let places = zombie.park(group.parking(0, "a", 1)).unwrap();
    let believes = zombie.consumer.group_metadata().unwrap();
    // It does not poll any more; the other one gets its places when its time is over.
    let heir = group.join();
    assert_eq!(heir.set().len(), 1);
    let refused = block_on(zombie.dead.park(group.parking(0, "b", 2), believes));
    assert!(matches!(refused, Err(FeedError::Lost)), "{refused:?}");
    let set = heir.set();
    assert_eq!((set.len(), set[0].letter), (1, Some(places[0])));
    assert_eq!(group.committed(), BTreeMap::from([(0, 2)]));
    assert_eq!(group.letters(), 1);
    // Its producer goes on where it may.
    heir.park(group.parking(0, "b", 2)).unwrap();
    assert_eq!(heir.set().len(), 2);
}

#[test]
fn a_letter_that_does_not_fit_goes_without_what_can_be_had_elsewhere() {
    let Some(group) = Group::new("large") else {
        return;
    };
    let DeadTopics { letters, .. } = group.topics();
    topics::alter(&group.address, &letters, "max.message.bytes", "4000");
    // Nothing that could be compressed.
    let text: String = (0..160_u32)
        .map(|number| blake3::hash(&number.to_be_bytes()).to_hex().to_string())
        .collect();
    let (value, header) = (text.as_bytes(), &text[..3_950]);
    let key = Some(&b"a"[..]);
    let large = Some(value);
    let small = Some(&b"y"[..]);
    topics::write_to(
        &group.address,
        &group.topic,
        0,
        [
            (key, large, &[][..]),
            (key, small, &[("long", header)][..]),
            (key, small, &[("short", "1")][..]),
            (key, Some(&value[..3_800]), &[][..]),
        ],
    );
    let records = topics::read(&group.address, &group.topic)
        .remove(&0)
        .unwrap();
    let letter = |at: usize| {
        let (record, message) = (
            group.letter(0, "a", i64::try_from(at).unwrap()),
            &records[at],
        );
        let mut letter = record;
        letter.record.value = message.payload().map(Bytes::copy_from_slice);
        let headers = ["long", "short"].into_iter().filter_map(|name| {
            let value = topics::header(message, name)?;
            Some((name.into(), Some(Bytes::from(value))))
        });
        letter.record.headers = headers.collect();
        letter
    };
    let member = group.join();
    let mut change = group.parking(0, "a", 0);
    change.letters = (0..4).map(letter).collect();
    change.offsets = vec![(group.place(0), 4)];
    let places = member.park(change).unwrap();
    let page = member.letters(group.key(0, "a"), places[0]).unwrap();
    let found: Vec<_> = page
        .letters
        .iter()
        .map(|(_, letter)| letter.record.clone())
        .collect();
    let expected: Vec<_> = (0..4).map(|at| letter(at).record).collect();
    assert_eq!(found, expected);
    let written = topics::read(&group.address, &letters);
    let written = &written[&places[0].partition];
    let left_out: Vec<_> = written
        .iter()
        .map(|message| topics::header(message, "tidelog-left-out"))
        .collect();
    let left_out: Vec<_> = left_out.iter().map(|text| text.as_deref()).collect();
    let all = [
        Some("reason,value"),
        Some("reason,value,headers"),
        None,
        Some("reason"),
    ];
    // The third one is innocent.
    assert_eq!(left_out[2], None);
    assert_eq!(left_out, all);
    // What stays elsewhere can be lost there, which is said.
    topics::delete_until(&group.address, &group.topic, 0, 1);
    let gone = member.letters(group.key(0, "a"), places[0]);
    let Err(FeedError::Gone { from, found }) = gone else {
        panic!("{gone:?}")
    };
    assert_eq!((from, found.offset), (places[0], places[0].offset + 1));
}
