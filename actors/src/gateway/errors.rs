//! What the actors' refusals are called on the wire.

use super::error_code::ErrorCode;
use crate::broker::{
    TopicError,
    catalogue::state::{ChangeTopicError, CreateTopicError},
    partition::messages::{AppendError, FetchError, InvalidBatch, OfflineError, SequenceError},
};

/// An offline partition: clients try again where it passes by itself, and tell a person otherwise.
impl From<&OfflineError> for ErrorCode {
    fn from(error: &OfflineError) -> Self {
        if error.is_passing { ErrorCode::NotLeaderOrFollower } else { ErrorCode::KafkaStorageError }
    }
}

impl From<&AppendError> for ErrorCode {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Corrupt { .. } => ErrorCode::CorruptMessage,
            AppendError::TooLarge { .. } | AppendError::Invalid(InvalidBatch::Expands { .. }) => {
                ErrorCode::MessageTooLarge
            }
            AppendError::Invalid(InvalidBatch::Timestamp { .. } | InvalidBatch::Old { .. }) => {
                ErrorCode::InvalidTimestamp
            }
            AppendError::Invalid(InvalidBatch::Codec) => ErrorCode::UnsupportedCompressionType,
            AppendError::Invalid(_) => ErrorCode::InvalidRecord,
            AppendError::Sequence(SequenceError::OutOfOrder { .. }) => {
                ErrorCode::OutOfOrderSequenceNumber
            }
            AppendError::Sequence(SequenceError::Fenced { .. }) => ErrorCode::InvalidProducerEpoch,
            AppendError::Sequence(SequenceError::OutsideTransaction { .. }) => {
                ErrorCode::InvalidTxnState
            }
            AppendError::Sequence(SequenceError::CoordinatorFenced { .. }) => {
                ErrorCode::TransactionCoordinatorFenced
            }
            // No request of Kafka's says where the log is to end.
            AppendError::NotAtEnd { .. } => ErrorCode::InvalidRequest,
            AppendError::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
            AppendError::DiskFull(_) => ErrorCode::KafkaStorageError,
            AppendError::TooFewInSync(_) => ErrorCode::NotEnoughReplicas,
            AppendError::Offline(offline) => offline.into(),
        }
    }
}

impl From<&FetchError> for ErrorCode {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            FetchError::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
            FetchError::Unreadable { .. } => ErrorCode::KafkaStorageError,
            FetchError::Offline(offline) => offline.into(),
        }
    }
}

impl From<&TopicError> for ErrorCode {
    fn from(error: &TopicError) -> Self {
        match error {
            TopicError::Create(CreateTopicError::Exists(_)) => ErrorCode::TopicAlreadyExists,
            TopicError::Create(CreateTopicError::Collides { .. }) => {
                ErrorCode::InvalidTopicException
            }
            TopicError::Create(CreateTopicError::Partitions(_))
            | TopicError::Change(ChangeTopicError::Partitions { .. }) => {
                ErrorCode::InvalidPartitions
            }
            TopicError::Partitions(_) => ErrorCode::PolicyViolation,
            TopicError::Change(ChangeTopicError::Unknown(_)) => ErrorCode::UnknownTopicOrPartition,
            TopicError::Change(ChangeTopicError::Kept(_)) => ErrorCode::InvalidTopicException,
            TopicError::Stopped => ErrorCode::NotController,
            TopicError::Coordination(_) | TopicError::Disk(_) | TopicError::Journal { .. } => {
                ErrorCode::KafkaStorageError
            }
            _ => ErrorCode::UnknownServerError,
        }
    }
}
