//! What a group coordinator may be asked, and what it answers.
//!
//! Field by field Kafka's requests of the classic group protocol, with what only the wire needs
//! (throttle times, tags) left out. A request that is about one group names it first.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use flumen_runtime::ids::{LeaderEpoch, Offset};
use uuid::Uuid;

use super::{
    error::GroupError,
    ids::{GenerationId, GroupId, InstanceId, MemberId},
    records::CommittedOffset,
};
use crate::broker::names::{TopicName, TopicPartition};

/// An assignor that a member speaks, with its subscription in that assignor's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The assignor's name, such as `range`.
    pub name: Arc<str>,
    /// The subscription.
    pub metadata: Bytes,
}

impl Protocol {
    /// Bytes that these take.
    #[must_use]
    pub fn bytes(all: &[Self]) -> usize {
        all.iter().map(|one| size_of::<Self>() + one.name.len() + one.metadata.len()).sum()
    }
}

/// Becomes a member, or stays one in the next generation. Answered when the group has formed.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<JoinedGroup, GroupError>")]
pub struct JoinGroup {
    /// Which group.
    pub group: GroupId,
    /// The name given before; none for a new member.
    pub member_id: Option<MemberId>,
    /// The lasting name of a static member.
    pub instance_id: Option<InstanceId>,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// Where the client is.
    pub client_host: Arc<str>,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: u32,
    /// What kind of group, such as `consumer`.
    pub protocol_type: Arc<str>,
    /// The assignors it speaks, the one it likes best first.
    pub protocols: Vec<Protocol>,
    /// Whether a new member is first only given its name (JoinGroup version 4 on, KIP-394).
    pub needs_known_id: bool,
    /// Whether a leader understands that it is not to assign (version 9 on, KIP-814).
    pub can_skip_assignment: bool,
}

impl JoinGroup {
    /// Bytes that the group must keep of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.client_id.len() + self.protocol_type.len() + Protocol::bytes(&self.protocols)
    }
}

/// The membership that formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// Its number.
    pub generation: GenerationId,
    /// What kind of group.
    pub protocol_type: Arc<str>,
    /// The assignor that won the vote.
    pub protocol: Arc<str>,
    /// Who assigns.
    pub leader: MemberId,
    /// Whether the leader is not to assign, since its assignment stands.
    pub is_assignment_skipped: bool,
    /// The member's own name.
    pub member_id: MemberId,
    /// All members, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its name.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// Its subscription.
    pub metadata: Bytes,
}

/// Asks for one's assignment; the leader brings everyone's. Answered when that is committed.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<SyncedGroup, GroupError>")]
pub struct SyncGroup {
    /// Which group.
    pub group: GroupId,
    /// The generation that was joined.
    pub generation: Option<GenerationId>,
    /// Who asks.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// What kind of group it takes this to be, where it says so (version 5 on).
    pub protocol_type: Option<Arc<str>>,
    /// The assignor it takes to have won, where it says so (version 5 on).
    pub protocol: Option<Arc<str>>,
    /// The leader's assignments; empty from the others.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// One's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedGroup {
    /// What kind of group.
    pub protocol_type: Arc<str>,
    /// The assignor that won the vote.
    pub protocol: Arc<str>,
    /// The assignment, in that assignor's words.
    pub assignment: Bytes,
}

/// Says that the member lives.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<(), GroupError>")]
pub struct Heartbeat {
    /// Which group.
    pub group: GroupId,
    /// The generation that it is in.
    pub generation: Option<GenerationId>,
    /// Who lives.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
}

/// Takes members out of the group.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<LeftGroup, GroupError>")]
pub struct LeaveGroup {
    /// Which group.
    pub group: GroupId,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, named by either of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// The name it was given.
    pub member_id: Option<MemberId>,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
}

/// How each one's leaving went, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftGroup {
    /// Each member, and whether it left.
    pub members: Vec<(LeavingMember, Result<(), GroupError>)>,
}

/// Records how far the group has come. Answered when that is committed.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<CommittedOffsets, GroupError>")]
pub struct CommitOffsets {
    /// Which group.
    pub group: GroupId,
    /// The member's generation; none from a reader that is no member.
    pub generation: Option<GenerationId>,
    /// The member; none from a reader that is no member.
    pub member_id: Option<MemberId>,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// How long to keep the offsets, in milliseconds, where an old client says so.
    pub retention_ms: Option<i64>,
    /// The offsets.
    pub offsets: Vec<OffsetToCommit>,
}

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Id of the topic, where it is known.
    pub topic_id: Option<Uuid>,
    /// The next offset to be read.
    pub offset: Offset,
    /// Epoch of the last record read, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The member's own words.
    pub metadata: Arc<str>,
}

/// How each commit went, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffsets {
    /// Each partition, and whether its offset is committed.
    pub partitions: Vec<(TopicPartition, Result<(), GroupError>)>,
}

/// Asks how far the group has come.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<FetchedOffsets, GroupError>")]
pub struct FetchOffsets {
    /// Which group.
    pub group: GroupId,
    /// Of which partitions; none asks for all that have an offset.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// How far the group has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffsets {
    /// Each partition, and its offset where one is committed.
    pub partitions: Vec<(TopicPartition, Option<CommittedOffset>)>,
}

/// Deletes committed offsets (KIP-496).
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<CommittedOffsets, GroupError>")]
pub struct DeleteOffsets {
    /// Which group.
    pub group: GroupId,
    /// Of which partitions.
    pub partitions: Vec<TopicPartition>,
}

/// Deletes the offsets of all groups in a topic that was deleted: another of the same name must not be
/// read from where the last one was left. Answered when that is committed.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<(), GroupError>")]
pub struct ForgetTopic {
    /// Which topic.
    pub topic: TopicName,
}

/// Deletes an empty group with all its offsets.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<(), GroupError>")]
pub struct DeleteGroup {
    /// Which group.
    pub group: GroupId,
}

/// Asks what a group is like.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "Result<DescribedGroup, GroupError>")]
pub struct DescribeGroup {
    /// Which group.
    pub group: GroupId,
}

/// What a group is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// What it is doing.
    pub state: GroupState,
    /// Its current membership.
    pub generation: GenerationId,
    /// What kind of group; empty where no member ever joined.
    pub protocol_type: Arc<str>,
    /// The assignor that won the vote; empty before there is one.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// What a member is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its name.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is.
    pub client_host: Arc<str>,
    /// Its subscription, for the assignor that won.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// Asks which groups there are.
#[derive(Clone, Debug, Default, Message, PartialEq, Eq)]
#[rtype(result = "Result<Vec<ListedGroup>, GroupError>")]
pub struct ListGroups {
    /// Only those in one of these states; all where empty.
    pub states: Vec<GroupState>,
}

/// A group of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Which.
    pub group: GroupId,
    /// What kind of group; empty where no member ever joined.
    pub protocol_type: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
}

/// What a group of the classic protocol is doing (Kafka's `ClassicGroupState`).
///
/// ```text
///             ┌──────────── no member is left ────────────┐
///             ▼                                           │
///   ──►  Empty ── a member joins ──►  PreparingRebalance ─┴─ all joined ──►  CompletingRebalance
///                                        ▲    ▲                                   │     │
///                                        │    └── a member comes, goes, changes ──┘     │
///                                        └── likewise ── Stable ◄── the leader assigned ┘
///   any ── deleted, expired ──► Dead
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// It has no members, and perhaps offsets.
    #[default]
    Empty,
    /// It waits for its members to join.
    PreparingRebalance,
    /// It waits for its leader to assign.
    CompletingRebalance,
    /// Everyone reads.
    Stable,
    /// It is gone.
    Dead,
}

impl GroupState {
    /// Kafka's name for it, as its tools show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    /// Whether a group may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: GroupState) -> bool {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match next {
            Empty => self == PreparingRebalance,
            PreparingRebalance => matches!(self, Stable | CompletingRebalance | Empty),
            CompletingRebalance => self == PreparingRebalance,
            Stable => self == CompletingRebalance,
            Dead => true,
        }
    }
}

/// Any request that concerns groups.
#[derive(Clone, Debug)]
pub enum Request {
    /// See [`JoinGroup`].
    Join(JoinGroup),
    /// See [`SyncGroup`].
    Sync(SyncGroup),
    /// See [`Heartbeat`].
    Heartbeat(Heartbeat),
    /// See [`LeaveGroup`].
    Leave(LeaveGroup),
    /// See [`CommitOffsets`].
    CommitOffsets(CommitOffsets),
    /// See [`FetchOffsets`].
    FetchOffsets(FetchOffsets),
    /// See [`DeleteOffsets`].
    DeleteOffsets(DeleteOffsets),
    /// See [`ForgetTopic`].
    ForgetTopic(ForgetTopic),
    /// See [`DeleteGroup`].
    DeleteGroup(DeleteGroup),
    /// See [`DescribeGroup`].
    DescribeGroup(DescribeGroup),
    /// See [`ListGroups`].
    ListGroups(ListGroups),
}

/// The answer to a [`Request`], of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`JoinGroup`].
    Join(Result<JoinedGroup, GroupError>),
    /// To [`SyncGroup`].
    Sync(Result<SyncedGroup, GroupError>),
    /// To [`Heartbeat`].
    Heartbeat(Result<(), GroupError>),
    /// To [`LeaveGroup`].
    Leave(Result<LeftGroup, GroupError>),
    /// To [`CommitOffsets`].
    CommitOffsets(Result<CommittedOffsets, GroupError>),
    /// To [`FetchOffsets`].
    FetchOffsets(Result<FetchedOffsets, GroupError>),
    /// To [`DeleteOffsets`].
    DeleteOffsets(Result<CommittedOffsets, GroupError>),
    /// To [`ForgetTopic`].
    ForgetTopic(Result<(), GroupError>),
    /// To [`DeleteGroup`].
    DeleteGroup(Result<(), GroupError>),
    /// To [`DescribeGroup`].
    DescribeGroup(Result<DescribedGroup, GroupError>),
    /// To [`ListGroups`].
    ListGroups(Result<Vec<ListedGroup>, GroupError>),
}

impl Reply {
    /// The same kind of answer, but a refusal.
    #[must_use]
    pub fn refused(self, why: GroupError) -> Reply {
        match self {
            Reply::Join(_) => Reply::Join(Err(why)),
            Reply::Sync(_) => Reply::Sync(Err(why)),
            Reply::Heartbeat(_) => Reply::Heartbeat(Err(why)),
            Reply::Leave(_) => Reply::Leave(Err(why)),
            Reply::CommitOffsets(_) => Reply::CommitOffsets(Err(why)),
            Reply::FetchOffsets(_) => Reply::FetchOffsets(Err(why)),
            Reply::DeleteOffsets(_) => Reply::DeleteOffsets(Err(why)),
            Reply::ForgetTopic(_) => Reply::ForgetTopic(Err(why)),
            Reply::DeleteGroup(_) => Reply::DeleteGroup(Err(why)),
            Reply::DescribeGroup(_) => Reply::DescribeGroup(Err(why)),
            Reply::ListGroups(_) => Reply::ListGroups(Err(why)),
        }
    }
}
