//! We and the other codec read what the other writes.

use std::{collections::BTreeSet, fmt::Debug};

use bytes::Bytes;
use flumen_actors::gateway::{api::ApiKey, codec::DecodeReason};
use flumen_runtime::rng::Rng;
use kafka_protocol::{
    messages as theirs,
    protocol::{Decodable, Encodable, Message as Theirs},
};

use crate::{Tested, made_up};

/// How many messages are drawn of each version, by us.
const DRAWS: u64 = 150;
/// And by them.
const THEIR_DRAWS: u64 = 50;

/// Draws messages of each version that both know. What we write they must read to its end and write
/// again byte for byte, and what they wrote we must read as what was drawn.
fn agree<Ours: Tested, Other: Theirs + Encodable + Decodable>(name: &str) {
    let other = Other::VERSIONS;
    for version in Ours::versions().filter(|version| (other.min..=other.max).contains(version)) {
        let mut rng = Rng::seeded(0).split(name);
        for draw in 0..DRAWS {
            let what = format!("draw {draw} of {name} version {version}");
            let ours = Ours::sample(&mut rng, Ours::version(version));
            let written = ours.body(version);
            let mut rest = written.clone();
            let read = Other::decode(&mut rest, version)
                .unwrap_or_else(|error| panic!("{what}: they say {error}: {ours:?}"));
            assert!(rest.is_empty(), "{what}: they leave {} bytes: {ours:?}", rest.len());
            let mut again = Vec::new();
            read.encode(&mut again, version).unwrap();
            let again = Bytes::from(again);
            assert_eq!(again, written, "{what}: {ours:?}");
            let (back, left) = Ours::read(again, version).unwrap();
            assert_eq!((back, left), (ours, 0), "{what}");
        }
    }
}

/// Messages in which they read null where Kafka's schema has none yet, up to this version.
const LAX: [(&str, i16); 5] = [
    ("DeleteTopicsResponse", 5),
    ("JoinGroupResponse", 6),
    ("MetadataRequest", 9),
    ("MetadataResponse", 11),
    ("OffsetFetchRequest", 1),
];

/// Has them draw messages of each version that both know. What they write we must read to its end, and
/// write again byte for byte: so no field is theirs alone.
fn know_all<Ours: Tested, Other: Theirs + Encodable + Decodable + Debug>(name: &str) {
    let other = Other::VERSIONS;
    for version in Ours::versions().filter(|version| (other.min..=other.max).contains(version)) {
        let rng = Rng::seeded(3).split(name);
        for draw in 0..THEIR_DRAWS {
            let what = format!("their draw {draw} of {name} version {version}");
            let theirs: Other = made_up::message(&rng.split(&what), version);
            let told = format!("{theirs:?}");
            // Null records of an answer we read as none.
            if name == "FetchResponse" && told.contains("records: None") {
                continue;
            }
            let mut written = Vec::new();
            theirs.encode(&mut written, version).unwrap();
            let written = Bytes::from(written);
            let (ours, left) = match Ours::read(written.clone(), version) {
                Ok(read) => read,
                Err(error) => {
                    let is_lax = LAX.iter().any(|(of, last)| *of == name && version <= *last);
                    assert!(
                        is_lax && error.reason == DecodeReason::Null,
                        "{what}: {error}: {told}"
                    );
                    continue;
                }
            };
            assert_eq!(left, 0, "{what}: {told}");
            assert_eq!(ours.body(version), written, "{what}: {told}, {ours:?}");
        }
    }
}

/// What we write we read, in every version.
fn return_home<Ours: Tested>(name: &str) {
    for version in Ours::versions() {
        let mut rng = Rng::seeded(1).split(name);
        for draw in 0..DRAWS {
            let ours = Ours::sample(&mut rng, Ours::version(version));
            let (back, left) = Ours::read(ours.body(version), version).unwrap();
            assert_eq!((back, left), (ours, 0), "draw {draw} of {name} version {version}");
        }
    }
}

macro_rules! agreement_tests {
    ($($module:ident $request:ident $response:ident),* $(,)?) => {
        $(mod $module {
            use flumen_actors::gateway::messages::$module::{$request, $response};

            #[test]
            fn requests_agree() {
                super::return_home::<$request>(stringify!($request));
                super::agree::<$request, super::theirs::$request>(stringify!($request));
                super::know_all::<$request, super::theirs::$request>(stringify!($request));
            }

            #[test]
            fn responses_agree() {
                super::return_home::<$response>(stringify!($response));
                super::agree::<$response, super::theirs::$response>(stringify!($response));
                super::know_all::<$response, super::theirs::$response>(stringify!($response));
            }
        })*

        /// The APIs of all messages above, and the last version that the other codec knows.
        fn tested() -> Vec<(ApiKey, i16)> {
            vec![$((
                <flumen_actors::gateway::messages::$module::$request
                    as flumen_actors::gateway::codec::Message>::API,
                theirs::$request::VERSIONS.max,
            )),*]
        }
    };
}

every_message!(agreement_tests);

#[test]
fn every_api_that_is_spoken_is_compared() {
    let tested: BTreeSet<_> = tested().into_iter().map(|(api, _)| api).collect();
    let spoken: BTreeSet<_> = ApiKey::advertised().map(|(api, _)| api).collect();
    assert_eq!(tested, spoken);
}

#[test]
fn what_the_other_codec_lacks_is_what_the_golden_bytes_cover() {
    let lacking = tested().into_iter().flat_map(|(api, last)| {
        (last + 1..=api.versions().unwrap().last).map(move |version| (api, version))
    });
    let lacking: BTreeSet<_> = lacking.collect();
    assert_eq!(lacking, crate::golden::COVERED.into_iter().collect());
}

/// Their values that ours cannot be drawn from: a tagged field that we missed would be skipped.
#[test]
fn tagged_fields_that_they_set_are_read() {
    use flumen_actors::gateway::messages::fetch::{EpochEndOffset, FetchResponse, SnapshotId};
    let partition = theirs::fetch_response::PartitionData::default()
        .with_diverging_epoch(
            theirs::fetch_response::EpochEndOffset::default().with_epoch(3).with_end_offset(4),
        )
        .with_snapshot_id(
            theirs::fetch_response::SnapshotId::default().with_epoch(5).with_end_offset(6),
        );
    let topic =
        theirs::fetch_response::FetchableTopicResponse::default().with_partitions(vec![partition]);
    let response = theirs::FetchResponse::default().with_responses(vec![topic]);
    let mut bytes = Vec::new();
    response.encode(&mut bytes, 12).unwrap();
    let (read, left) = FetchResponse::read(bytes.into(), 12).unwrap();
    let partition = &read.responses[0].partitions[0];
    assert_eq!(partition.diverging_epoch, EpochEndOffset { epoch: 3, end_offset: 4 });
    assert_eq!(partition.snapshot_id, SnapshotId { epoch: 5, end_offset: 6 });
    assert!(partition.records.is_empty(), "they write null");
    assert_eq!(left, 0);
}

/// Else one that we lack might not be noticed.
#[test]
fn what_is_made_up_of_theirs_has_fields_of_every_kind() {
    let rng = Rng::seeded(4);
    let draws = 0..THEIR_DRAWS;
    let drawn = draws.map(|draw| made_up::message(&rng.split(&draw.to_string()), 18));
    let drawn: Vec<theirs::FetchRequest> = drawn.collect();
    let has = |what: &str, is: &dyn Fn(&theirs::FetchRequest) -> bool| {
        assert!(drawn.iter().any(is), "no {what} was drawn");
    };
    has("text", &|one| !one.rack_id.is_empty());
    has("structures in an array", &|one| one.forgotten_topics_data.len() > 1);
    has("text in a tag", &|one| one.cluster_id.is_some());
    has("structure in a tag", &|one| one.replica_state.replica_epoch == 0);
    let mut partitions = drawn.iter().flat_map(|one| &one.topics).flat_map(|one| &one.partitions);
    assert!(partitions.any(|one| !one.replica_directory_id.is_nil() && one.high_watermark == 1));
}

/// Their unknown tagged fields are passed over.
#[test]
fn tagged_fields_that_nobody_knows_are_skipped() {
    use flumen_actors::gateway::messages::heartbeat::HeartbeatRequest;
    let mut request = theirs::HeartbeatRequest::default().with_generation_id(7);
    request.unknown_tagged_fields.insert(9, Bytes::from_static(b"from the future"));
    let mut bytes = Vec::new();
    request.encode(&mut bytes, 4).unwrap();
    let (read, left) = HeartbeatRequest::read(bytes.into(), 4).unwrap();
    assert_eq!((read.generation_id, left), (7, 0));
}
