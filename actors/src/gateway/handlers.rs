//! What each API does, one family a file: from a decoded request, over messages to the actors in
//! charge, to a response.

pub(super) mod api_versions;
pub(super) mod cluster;
pub(super) mod configs;
pub(super) mod fetch;
pub(super) mod find_coordinator;
pub(super) mod groups;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod partitions;
pub(super) mod produce;
pub(super) mod producer_ids;
pub(super) mod topics;

use bytestring::ByteString;
use flumen_runtime::ids::LeaderEpoch;

use super::{Shared, error_code::ErrorCode, listener::Endpoint};
use crate::broker::{
    Topic,
    names::{PartitionId, TopicPartition},
};

/// Refuses a client that takes another leader epoch to be current; a negative one is no claim.
fn check_epoch(asked: i32, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match u32::try_from(asked) {
        Ok(asked) if asked < current.0 => Err(ErrorCode::FencedLeaderEpoch),
        Ok(asked) if asked > current.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Who leads a partition, and on whom it is offline, as a client is told that asks for metadata: nobody
/// leads it while it is offline.
fn leading(shared: &Shared, topic: &Topic, number: i32) -> (i32, Vec<i32>) {
    const NOBODY: i32 = -1;
    let partition = PartitionId(number.unsigned_abs());
    let assigned = &topic.partitions[partition.0 as usize];
    let leader = assigned.leader;
    let partition = TopicPartition { topic: topic.name.clone(), partition };
    if leader == shared.node && shared.broker.is_offline(&partition, assigned) {
        return (NOBODY, vec![leader.0]);
    }
    (leader.0, Vec::new())
}

/// Who leads a partition, in which epoch, and where that node is, as a client is told that asked in vain
/// (KIP-951): it need not ask for metadata first.
struct Leader {
    id: i32,
    epoch: i32,
    /// Host and port; none of another node, whose listeners are not known here.
    endpoint: Option<(ByteString, u16)>,
}

impl Leader {
    fn of(shared: &Shared, listener: &Endpoint, topic: &Topic, number: i32) -> Option<Self> {
        let assigned = topic.partitions.get(usize::try_from(number).ok()?)?;
        let is_here = assigned.leader == shared.node;
        Some(Self {
            id: assigned.leader.0,
            epoch: i32::try_from(assigned.leader_epoch.0).unwrap_or(i32::MAX),
            endpoint: is_here.then(|| (ByteString::from(&*listener.host), listener.port)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_unknown() {
        let check = |asked| check_epoch(asked, LeaderEpoch(5));
        assert_eq!((check(-1), check(5)), (Ok(()), Ok(())));
        assert_eq!(check(4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check(6), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
