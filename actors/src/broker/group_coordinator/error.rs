//! Why a group's coordinator refuses, named and numbered as Kafka does (`Errors.java`).

use super::ids::MemberId;

/// Why a request of a member, or about a group, was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GroupError {
    /// Something that no client can mend.
    #[error("the coordinator could not write the group's record: {0}")]
    UnknownServer(&'static str),
    /// Metadata of a committed offset that is too long.
    #[error("metadata of a committed offset is longer than {bytes_max} bytes")]
    OffsetMetadataTooLarge {
        /// The most allowed.
        bytes_max: usize,
    },
    /// The coordinator is still reading its log.
    #[error("the coordinator is loading; ask again")]
    CoordinatorLoadInProgress,
    /// The coordinator cannot answer now.
    #[error("the coordinator is not available; ask again")]
    CoordinatorNotAvailable,
    /// Another coordinator has this group.
    #[error("this is not the coordinator of the group; look it up again")]
    NotCoordinator,
    /// The group has formed a newer membership.
    #[error("the generation is not the group's current one; join again")]
    IllegalGeneration,
    /// A member that speaks no assignor that all others speak.
    #[error("the member shares no assignor, or not the protocol's type, with the group")]
    InconsistentGroupProtocol,
    /// A group name that is not allowed here.
    #[error("the group's name is empty, or longer than 32767 bytes")]
    InvalidGroupId,
    /// The member is not known: never was, left, or was silent too long.
    #[error("the member is not known to the group; join again as a new one")]
    UnknownMemberId,
    /// A session timeout outside of what the coordinator allows.
    #[error("the session timeout of {got_ms} ms is not within {min_ms} to {max_ms} ms")]
    InvalidSessionTimeout {
        /// What was asked for.
        got_ms: u32,
        /// The least allowed.
        min_ms: u32,
        /// The most allowed.
        max_ms: u32,
    },
    /// The group is forming a new membership.
    #[error("the group is rebalancing; join again")]
    RebalanceInProgress,
    /// A group that still has members.
    #[error("the group has members; stop them first")]
    NonEmptyGroup,
    /// No such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The member must join again under the name that it was given (KIP-394).
    #[error("join again as `{0}`")]
    MemberIdRequired(MemberId),
    /// The group has as many members as it may have.
    #[error("the group has {members_max} members, which is `group.max.size`")]
    GroupMaxSizeReached {
        /// The most allowed.
        members_max: usize,
    },
    /// The coordinator has as many groups as it may have.
    #[error(
        "its coordinator has {groups_max} groups, which is `max.groups`: raise it, or delete groups"
    )]
    TooManyGroups {
        /// The most allowed.
        groups_max: usize,
    },
    /// The coordinator keeps as much of what members say as it may.
    #[error(
        "what the members of its coordinator's groups say comes to {bytes_max} bytes, which is \
         `max.group.bytes`: raise it, or stop members"
    )]
    TooManyBytes {
        /// The most allowed.
        bytes_max: usize,
    },
    /// Another life of the static member has taken its place (KIP-345).
    #[error("another member runs under this instance id; stop one of the two")]
    FencedInstanceId,
    /// Offsets of a topic that the group reads now.
    #[error("the group is subscribed to the topic; its offsets cannot be deleted")]
    GroupSubscribedToTopic,
}

impl GroupError {
    /// Kafka's number for it.
    #[must_use]
    pub fn code(&self) -> i16 {
        match self {
            GroupError::UnknownServer(_) => -1,
            GroupError::OffsetMetadataTooLarge { .. } => 12,
            GroupError::CoordinatorLoadInProgress => 14,
            GroupError::CoordinatorNotAvailable => 15,
            GroupError::NotCoordinator => 16,
            GroupError::IllegalGeneration => 22,
            GroupError::InconsistentGroupProtocol => 23,
            GroupError::InvalidGroupId => 24,
            GroupError::UnknownMemberId => 25,
            GroupError::InvalidSessionTimeout { .. } => 26,
            GroupError::RebalanceInProgress => 27,
            // Kafka has no such limits; what it calls a policy is one.
            GroupError::TooManyGroups { .. } | GroupError::TooManyBytes { .. } => 44,
            GroupError::NonEmptyGroup => 68,
            GroupError::GroupIdNotFound => 69,
            GroupError::MemberIdRequired(_) => 79,
            GroupError::GroupMaxSizeReached { .. } => 81,
            GroupError::FencedInstanceId => 82,
            GroupError::GroupSubscribedToTopic => 86,
        }
    }

    /// Whether a limit was met that whoever runs the node can raise.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            GroupError::GroupMaxSizeReached { .. }
                | GroupError::TooManyGroups { .. }
                | GroupError::TooManyBytes { .. }
        )
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            GroupError::CoordinatorLoadInProgress
                | GroupError::CoordinatorNotAvailable
                | GroupError::NotCoordinator
        )
    }
}
