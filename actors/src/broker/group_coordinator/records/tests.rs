//! Records of `__consumer_offsets`: the bytes Kafka writes, and what is refused.

use proptest::prelude::*;

use super::*;

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionId(7) }
}

fn offset() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(300),
        leader_epoch: Some(LeaderEpoch(2)),
        metadata: "m".into(),
        committed_at_ms: 5,
        expires_at_ms: None,
        topic_id: None,
    }
}

fn membership() -> Membership {
    Membership {
        protocol_type: "consumer".into(),
        generation: GenerationId(3),
        protocol: Some("range".into()),
        leader: Some("a".into()),
        since_ms: Some(9),
        members: vec![MemberRecord {
            member_id: "a".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 2,
            subscription: Bytes::from_static(&[0xaa]),
            assignment: Bytes::from_static(&[0xbb, 0xcc]),
        }],
    }
}

fn round_trip(record: &GroupRecord) {
    let (key, value) = record.encode();
    assert_eq!(decode(&key, value.as_deref()).unwrap().as_ref(), Some(record));
}

#[test]
fn an_offset_is_written_as_kafka_4_writes_it() {
    let record =
        GroupRecord::Offset { group: "g".into(), partition: partition(), value: Some(offset()) };
    let (key, value) = record.encode();
    assert_eq!(key.as_ref(), b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
    let expected = b"\0\x04\0\0\0\0\0\0\x01\x2c\0\0\0\x02\x02m\0\0\0\0\0\0\0\x05\0";
    assert_eq!(value.unwrap().as_ref(), expected);
    round_trip(&record);
}

#[test]
fn an_offset_with_a_topic_id_or_a_retention_of_its_own_is_read_back() {
    let group = GroupId::from("g");
    let with_id = CommittedOffset { topic_id: Some(Uuid::from_u128(7)), ..offset() };
    let record =
        GroupRecord::Offset { group: group.clone(), partition: partition(), value: Some(with_id) };
    let (_, value) = record.encode();
    assert!(value.unwrap().ends_with(&[1, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]));
    round_trip(&record);

    let expiring = CommittedOffset { expires_at_ms: Some(8), leader_epoch: None, ..offset() };
    let record = GroupRecord::Offset { group, partition: partition(), value: Some(expiring) };
    let expected = b"\0\x01\0\0\0\0\0\0\x01\x2c\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x08";
    assert_eq!(record.encode().1.unwrap().as_ref(), expected);
    round_trip(&record);
}

#[test]
fn every_version_of_an_offset_is_read() {
    let key = b"\0\0\0\x01g\0\x01t\0\0\0\x07";
    let head = b"\0\0\0\0\0\0\x01\x2c";
    let tail = b"\0\x01m\0\0\0\0\0\0\0\x05";
    for (version, epoch, rest) in [
        (0_i16, &b""[..], &b""[..]),
        (1, b"", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        (2, b"", b""),
        (3, b"\0\0\0\x02", b""),
    ] {
        let bytes = [&version.to_be_bytes()[..], head, epoch, tail, rest].concat();
        let leader_epoch = (version == 3).then_some(LeaderEpoch(2));
        let value = Some(CommittedOffset { leader_epoch, ..offset() });
        let expected = GroupRecord::Offset { group: "g".into(), partition: partition(), value };
        assert_eq!(decode(key, Some(&bytes)), Ok(Some(expected)), "version {version}");
    }
}

#[test]
fn a_group_is_written_as_kafka_4_writes_it() {
    let record = GroupRecord::Group { group: "g".into(), value: Some(membership()) };
    let (key, value) = record.encode();
    assert_eq!(key.as_ref(), b"\0\x02\0\x01g");
    let expected = b"\0\x03\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\0\0\0\0\0\0\0\x09\0\0\0\x01\
        \0\x01a\xff\xff\0\x01c\0\x02/h\0\0\0\x01\0\0\0\x02\0\0\0\x01\xaa\0\0\0\x02\xbb\xcc";
    assert_eq!(value.unwrap().as_ref(), expected);
    round_trip(&record);
}

#[test]
fn older_and_flexible_versions_of_a_group_are_read() {
    let key = b"\0\x02\0\x01g";
    let v0 = b"\0\0\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\0\0\0\x01\
        \0\x01a\0\x01c\0\x02/h\0\0\0\x02\0\0\0\x01\xaa\0\0\0\x02\xbb\xcc";
    let mut expected = membership();
    expected.since_ms = None;
    expected.members[0].rebalance_timeout_ms = 2;
    let record = |value| Ok(Some(GroupRecord::Group { group: "g".into(), value: Some(value) }));
    assert_eq!(decode(key, Some(v0)), record(expected));

    let v4 = b"\0\x04\x09consumer\0\0\0\x03\x06range\x02a\0\0\0\0\0\0\0\x09\x02\
        \x02a\0\x02c\x03/h\0\0\0\x01\0\0\0\x02\x02\xaa\x03\xbb\xcc\0\0";
    assert_eq!(decode(key, Some(v4)), record(membership()));
}

#[test]
fn a_tombstone_has_no_value_and_other_kinds_are_left_alone() {
    let gone = GroupRecord::Offset { group: "g".into(), partition: partition(), value: None };
    assert_eq!(gone.encode().1, None);
    round_trip(&gone);
    round_trip(&GroupRecord::Group { group: "g".into(), value: None });
    assert_eq!(decode(b"\0\x03\0\x01g", Some(b"whatever")), Ok(None));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let newer = decode(b"\0\x02\0\x01g", Some(b"\0\x05"));
    assert!(matches!(newer, Err(WireError::Version { got: 5, known_max: 4, .. })), "{newer:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        kind in 0_i16..4, version in -1_i16..6,
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let key = [&kind.to_be_bytes()[..], &key].concat();
        let value = [&version.to_be_bytes()[..], &value].concat();
        let _ = decode(&key, Some(&value));
    }

    #[test]
    fn a_cut_record_is_refused(cut in 0_usize..80) {
        let record = GroupRecord::Group { group: "g".into(), value: Some(membership()) };
        let (key, value) = record.encode();
        let value = value.unwrap();
        let cut = cut.min(value.len() - 1);
        prop_assert!(decode(&key, Some(&value[..cut])).is_err());
    }
}
