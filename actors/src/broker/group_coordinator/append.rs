//! From records to batches, and from a partition's refusal to a coordinator's.

use bytes::BytesMut;
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    clock::UnixMillis,
};

use super::{error::GroupError, records::GroupRecord, turn::Options};
use crate::broker::partition::messages::AppendError;

/// The records as batches, none larger than the log takes.
pub(super) fn encode(records: &[GroupRecord], now_ms: UnixMillis, options: &Options) -> BytesMut {
    let mut batches = BytesMut::new();
    let mut builder = BatchBuilder::new(now_ms);
    for record in records {
        let is_full = builder.bytes() + record.bytes_about() > options.append_bytes_max;
        if is_full && !builder.is_empty() {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(now_ms));
            batches.unsplit(full.build());
        }
        let (key, value) = record.encode();
        builder.push(RecordRef {
            timestamp: now_ms,
            key: Some(&key),
            value: value.as_deref(),
            headers: &[],
        });
    }
    if !builder.is_empty() {
        batches.unsplit(builder.build());
    }
    batches
}

/// What members are told when nothing was written; none where something may have been.
pub(super) fn refusal(why: &AppendError) -> Option<GroupError> {
    match why {
        AppendError::Offline(_) => None,
        AppendError::NotLeader(_) => Some(GroupError::NotCoordinator),
        AppendError::DiskFull(_) | AppendError::TooFewInSync(_) => {
            Some(GroupError::CoordinatorNotAvailable)
        }
        AppendError::TooLarge { .. } => Some(GroupError::UnknownServer("it is too large")),
        _ => Some(GroupError::UnknownServer("the partition does not take it")),
    }
}
