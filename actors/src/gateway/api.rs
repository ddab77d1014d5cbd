//! Kafka's APIs: their keys, and of those that we speak, in which versions.

use std::{fmt, ops::RangeInclusive};

/// The versions of an API that the codec knows, and those that clients are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first version that is coded and decoded.
    pub first: i16,
    /// The last one.
    pub last: i16,
    /// The first flexible version: compact lengths and tagged fields.
    pub flexible: i16,
    /// The first version that ApiVersions advertises.
    pub advertised_first: i16,
    /// The last one.
    pub advertised_last: i16,
}

/// A version of a message, and whether it is a flexible one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: i16,
    /// Whether lengths are compact and structures end in tagged fields.
    pub flexible: bool,
}

macro_rules! api_keys {
    ($($name:ident = $key:literal $({
        $first:literal ..= $last:literal, flexible $flexible:literal..,
        advertised $advertised_first:literal ..= $advertised_last:literal
    })?),* $(,)?) => {
        /// What a request asks for. The names and numbers are Kafka's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(i16)]
        #[expect(missing_docs, reason = "the names are Kafka's, and say it")]
        pub enum ApiKey {
            $($name = $key),*
        }

        impl ApiKey {
            /// All of them, in order.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];

            /// The API of that number.
            #[must_use]
            pub fn from_number(number: i16) -> Option<ApiKey> {
                match number {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// The versions that we know of it; `None` where we do not speak it.
            #[must_use]
            pub fn versions(self) -> Option<Versions> {
                match self {
                    $($(ApiKey::$name => Some(Versions {
                        first: $first,
                        last: $last,
                        flexible: $flexible,
                        advertised_first: $advertised_first,
                        advertised_last: $advertised_last,
                    }),)?)*
                    _ => None,
                }
            }
        }
    };
}

// Produce is advertised from 0, since librdkafka takes a higher minimum for a broker without
// compression; its versions 0 to 2 are refused when they are used, as Kafka does. Its version 12 waits
// for transactions, and 13 stands behind that. ApiVersions 5 waits for refusing a client that means
// another cluster or node. Keys 4 to 7 went with Kafka's use of ZooKeeper.
api_keys! {
    Produce = 0 { 3..=13, flexible 9.., advertised 0..=11 },
    Fetch = 1 { 4..=18, flexible 12.., advertised 4..=18 },
    ListOffsets = 2 { 1..=11, flexible 6.., advertised 1..=11 },
    Metadata = 3 { 0..=13, flexible 9.., advertised 0..=13 },
    OffsetCommit = 8 { 2..=10, flexible 8.., advertised 2..=10 },
    OffsetFetch = 9 { 1..=10, flexible 6.., advertised 1..=10 },
    FindCoordinator = 10 { 0..=6, flexible 3.., advertised 0..=6 },
    JoinGroup = 11 { 0..=9, flexible 6.., advertised 0..=9 },
    Heartbeat = 12 { 0..=4, flexible 4.., advertised 0..=4 },
    LeaveGroup = 13 { 0..=5, flexible 4.., advertised 0..=5 },
    SyncGroup = 14 { 0..=5, flexible 4.., advertised 0..=5 },
    DescribeGroups = 15 { 0..=6, flexible 5.., advertised 0..=6 },
    ListGroups = 16 { 0..=5, flexible 3.., advertised 0..=5 },
    SaslHandshake = 17,
    ApiVersions = 18 { 0..=5, flexible 3.., advertised 0..=4 },
    CreateTopics = 19 { 2..=7, flexible 5.., advertised 2..=7 },
    DeleteTopics = 20 { 1..=6, flexible 4.., advertised 1..=6 },
    DeleteRecords = 21 { 0..=2, flexible 2.., advertised 0..=2 },
    InitProducerId = 22 { 0..=5, flexible 2.., advertised 0..=5 },
    OffsetForLeaderEpoch = 23 { 2..=4, flexible 4.., advertised 2..=4 },
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32 { 1..=4, flexible 4.., advertised 1..=4 },
    AlterConfigs = 33 { 0..=2, flexible 2.., advertised 0..=2 },
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35 { 1..=5, flexible 2.., advertised 1..=5 },
    SaslAuthenticate = 36,
    CreatePartitions = 37 { 0..=3, flexible 2.., advertised 0..=3 },
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42 { 0..=3, flexible 2.., advertised 0..=3 },
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44 { 0..=1, flexible 1.., advertised 0..=1 },
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47 { 0..=0, flexible 1.., advertised 0..=0 },
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    Vote = 52,
    BeginQuorumEpoch = 53,
    EndQuorumEpoch = 54,
    DescribeQuorum = 55,
    AlterPartition = 56,
    UpdateFeatures = 57,
    Envelope = 58,
    FetchSnapshot = 59,
    DescribeCluster = 60 { 0..=2, flexible 0.., advertised 0..=2 },
    DescribeProducers = 61 { 0..=0, flexible 0.., advertised 0..=0 },
    BrokerRegistration = 62,
    BrokerHeartbeat = 63,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    AllocateProducerIds = 67,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ControllerRegistration = 70,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    AssignReplicasToDirs = 73,
    ListConfigResources = 74 { 0..=1, flexible 0.., advertised 0..=1 },
    DescribeTopicPartitions = 75 { 0..=0, flexible 0.., advertised 0..=0 },
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    UpdateRaftVoter = 82,
    InitializeShareGroupState = 83,
    ReadShareGroupState = 84,
    WriteShareGroupState = 85,
    DeleteShareGroupState = 86,
    ReadShareGroupStateSummary = 87,
    StreamsGroupHeartbeat = 88,
    StreamsGroupDescribe = 89,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
    StreamsGroupTopologyDescriptionUpdate = 93,
    UnregisterController = 94,
}

impl ApiKey {
    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Version `number` of it; `None` where the codec does not know it.
    #[must_use]
    pub fn version(self, number: i16) -> Option<Version> {
        let known = self.versions()?;
        (known.first..=known.last)
            .contains(&number)
            .then_some(Version { number, flexible: number >= known.flexible })
    }

    /// Whether a request of that version is answered: it is advertised, and the codec knows it.
    #[must_use]
    pub fn serves(self, number: i16) -> bool {
        self.versions().is_some_and(|known| {
            let advertised = known.advertised_first..=known.advertised_last;
            (known.first..=known.last).contains(&number) && advertised.contains(&number)
        })
    }

    /// What ApiVersions tells: each API that we speak, with its versions.
    pub fn advertised() -> impl Iterator<Item = (ApiKey, RangeInclusive<i16>)> {
        ApiKey::ALL.iter().filter_map(|key| {
            let known = key.versions()?;
            Some((*key, known.advertised_first..=known.advertised_last))
        })
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_number() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_number(key.number()), Some(*key));
        }
        assert_eq!(ApiKey::from_number(4), None);
        assert_eq!(ApiKey::from_number(-1), None);
    }

    #[test]
    fn produce_is_advertised_from_a_version_that_is_not_served() {
        let (_, versions) = ApiKey::advertised().next().unwrap();
        assert_eq!(versions, 0..=11);
        let served = |version| ApiKey::Produce.serves(version);
        assert!(!served(2) && served(3) && served(11) && !served(12));
    }

    #[test]
    fn what_is_advertised_is_coded_up_to_its_last_version() {
        for (key, versions) in ApiKey::advertised() {
            assert!(key.version(*versions.end()).is_some(), "{key}");
            let quirk = key == ApiKey::Produce;
            assert!(quirk || key.version(*versions.start()).is_some(), "{key}");
        }
    }
}
