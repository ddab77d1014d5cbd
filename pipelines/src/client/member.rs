//! A member of a group over the wire: the core of embedded members, with its questions asked of the
//! group's coordinator.
//!
//! It acts only when it is given a turn, and asks one thing at a time, as its client does: whoever
//! reads gives it one between two fetches. Before a turn, what was read is finished and committed,
//! for a turn may give partitions up to others.
//!
//! As the leader of its group it shares out the topics of all members, and asks how many partitions
//! they have: others may want topics that it does not read.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use flumen_actors::{
    broker::{
        consumer::member::{Effect, Input, Member, MemberOptions},
        group_coordinator::{
            error::GroupError,
            ids::{GenerationId, InstanceId, MemberId},
            messages::{
                Heartbeat, JoinGroup, JoinedGroup, JoinedMember, LeaveGroup, SyncGroup, SyncedGroup,
            },
        },
        names::{TopicName, TopicPartition},
    },
    gateway::{
        codec::Request,
        error_code::ErrorCode,
        messages::{
            heartbeat::HeartbeatRequest,
            join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
            leave_group::{LeaveGroupRequest, MemberIdentity},
            sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
        },
    },
};
use tokio::time::Instant;

use super::{Client, ClientError, Patience, is_passing};

/// How often it says that it lives: a rebalance is heard of no later.
const BEAT: Duration = Duration::from_secs(1);
/// How long it waits before it joins again where that was refused for now.
const REJOIN: Duration = Duration::from_millis(100);
/// How often it looks, as the leader, whether topics have grown.
const LOOK: Duration = Duration::from_secs(5);

/// What a turn has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These are read by this member from now on.
    Given(Vec<TopicPartition>),
    /// These are not any more.
    Taken(Vec<TopicPartition>),
}

/// See the module.
#[derive(Debug)]
pub struct Membership {
    core: Member,
    /// How many partitions there are of the topics that it shares out, and when that was told; none where
    /// it could not be told.
    counts: BTreeMap<TopicName, u32>,
    looked: Option<Instant>,
    /// When it must have a turn.
    due: Instant,
    /// Whether it must join at its next turn.
    joins: bool,
    patience: Option<Patience>,
}

impl Membership {
    /// One that joins at its first turn.
    #[must_use]
    pub fn new(options: MemberOptions) -> Self {
        Self {
            core: Member::new(options),
            counts: BTreeMap::new(),
            looked: None,
            due: Instant::now(),
            joins: true,
            patience: None,
        }
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.core.options().group.as_str()
    }

    /// Who commits, and in which generation; none while it is no member.
    #[must_use]
    pub fn identity(&self) -> Option<(MemberId, GenerationId)> {
        self.core.identity()
    }

    /// When it must have its next turn.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether it knows what it is to read.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        !self.joins
    }

    /// A turn: joins, or says that it lives, and takes part in a rebalance.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be a member, or no coordinator answers for as long as patience
    /// lasts.
    pub async fn turn(&mut self, client: &mut Client) -> Result<Vec<Change>, ClientError> {
        let input = if self.joins { Input::Join } else { Input::Beat };
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            let led = self.core.led().cloned().collect();
            self.look(client, &led).await?;
        }
        self.run(client, input).await
    }

    /// The group has refused a commit of this member, and so what it says it is.
    ///
    /// # Errors
    /// As of a turn.
    pub async fn refused(
        &mut self,
        client: &mut Client,
        why: GroupError,
    ) -> Result<Vec<Change>, ClientError> {
        let Some((_, generation)) = self.identity() else { return Ok(Vec::new()) };
        self.run(client, Input::Beaten(generation, Err(why))).await
    }

    /// Leaves the group, so that others take over at once.
    ///
    /// # Errors
    /// [`ClientError`] where that cannot be said: it is out when its session ends.
    pub async fn leave(mut self, client: &mut Client) -> Result<(), ClientError> {
        let Some(LeaveGroup { group, members }) = self.core.leave(true) else { return Ok(()) };
        let text = |id: Option<MemberId>| id.map(|id| id.as_str().into()).unwrap_or_default();
        let members: Vec<MemberIdentity> = members
            .into_iter()
            .map(|member| MemberIdentity {
                member_id: text(member.member_id),
                group_instance_id: member.instance_id.map(|id| id.as_str().into()),
                ..MemberIdentity::default()
            })
            .collect();
        let group_id = group.as_str().into();
        let request = LeaveGroupRequest { group_id, members, ..LeaveGroupRequest::default() };
        let node = client.coordinator(group.as_str()).await?;
        // Whatever it answers: it is out, or was.
        client.ask_node(node, &request, Duration::ZERO).await.map(drop)
    }

    async fn run(&mut self, client: &mut Client, input: Input) -> Result<Vec<Change>, ClientError> {
        let (mut changes, mut inputs) = (Vec::new(), VecDeque::from([input]));
        self.joins = false;
        self.due = Instant::now() + BEAT;
        while let Some(input) = inputs.pop_front() {
            let counts = &self.counts;
            let effects = self.core.step(input, &|topic| counts.get(topic).copied());
            for effect in effects {
                match effect {
                    Effect::Join(join) => {
                        let joined = self.join(client, &join).await?;
                        let led = joined.as_ref().map(|joined| self.core.leads(joined));
                        self.look(client, &led.unwrap_or_default()).await?;
                        inputs.push_back(Input::Joined(joined));
                    }
                    Effect::Sync(sync) => {
                        inputs.push_back(Input::Synced(self.sync(client, sync).await?));
                    }
                    Effect::Heartbeat(beat) => {
                        let generation = beat.generation.unwrap_or_default();
                        let beaten = self.beat(client, &beat).await?;
                        inputs.push_back(Input::Beaten(generation, beaten));
                    }
                    Effect::JoinLater => {
                        self.joins = true;
                        self.due = Instant::now() + REJOIN;
                    }
                    Effect::Revoke(number, partitions) => {
                        // What was read of them is committed.
                        changes.push(Change::Taken(partitions));
                        inputs.push_back(Input::GivenUp(number));
                    }
                    Effect::Lose(partitions) => changes.push(Change::Taken(partitions)),
                    Effect::Assign(partitions) => changes.push(Change::Given(partitions)),
                    Effect::Fail(why) => {
                        let code = ErrorCode::from_number(why.code());
                        return Err(self.cannot(code));
                    }
                }
            }
        }
        Ok(changes)
    }

    /// Looks how many partitions these have. What cannot be told now is asked again at the next beat, and
    /// the group hears of it then.
    async fn look(
        &mut self,
        client: &mut Client,
        topics: &BTreeSet<TopicName>,
    ) -> Result<(), ClientError> {
        if topics.is_empty() {
            return Ok(());
        }
        self.looked = None;
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        let told = match client.metadata(Some(&names), false).await {
            Ok(told) => told,
            Err(error) => {
                let patience = *self.patience.get_or_insert_default();
                return patience.with(error).await;
            }
        };
        self.looked = Some(Instant::now());
        for topic in told.topics {
            let Ok(name) = TopicName::new(topic.name.as_deref().unwrap_or_default()) else {
                continue;
            };
            match topic.error_code {
                ErrorCode::None => {
                    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
                    self.counts.insert(name, count);
                }
                ErrorCode::UnknownTopicOrPartition => drop(self.counts.remove(&name)),
                // It says nothing of how many there are.
                _ => {}
            }
        }
        Ok(())
    }

    fn cannot(&self, code: ErrorCode) -> ClientError {
        let what = format!("cannot be a member of group `{}`", self.group());
        ClientError::Refused { what, code, message: None }
    }

    /// Asks the coordinator, who may wait for `longer`. That it cannot be asked now is what a coordinator
    /// may say, too.
    async fn ask<R: Request>(
        &mut self,
        client: &mut Client,
        request: &R,
        longer: Duration,
    ) -> Result<Result<R::Response, GroupError>, ClientError> {
        let group = self.group().to_owned();
        let asked = match client.coordinator(&group).await {
            Ok(node) => client.ask_node(node, request, longer).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(answer) => {
                self.patience = None;
                Ok(Ok(answer))
            }
            Err(error) => {
                let patience = *self.patience.get_or_insert_default();
                patience.with(error).await?;
                Ok(Err(GroupError::CoordinatorNotAvailable))
            }
        }
    }

    /// What an error of the coordinator means to the core; an error that nothing can be done about ends
    /// the membership.
    fn refusal(&self, code: ErrorCode, member: &str) -> Result<GroupError, ClientError> {
        Ok(match code {
            ErrorCode::MemberIdRequired => GroupError::MemberIdRequired(MemberId::from(member)),
            ErrorCode::RebalanceInProgress => GroupError::RebalanceInProgress,
            ErrorCode::UnknownMemberId => GroupError::UnknownMemberId,
            ErrorCode::IllegalGeneration => GroupError::IllegalGeneration,
            code if is_passing(code) => GroupError::CoordinatorNotAvailable,
            code => return Err(self.cannot(code)),
        })
    }

    async fn join(
        &mut self,
        client: &mut Client,
        join: &JoinGroup,
    ) -> Result<Result<JoinedGroup, GroupError>, ClientError> {
        let protocols = join.protocols.iter().map(|one| JoinGroupRequestProtocol {
            name: (&*one.name).into(),
            metadata: one.metadata.clone(),
        });
        let millis = |millis: u32| i32::try_from(millis).unwrap_or(i32::MAX);
        let request = JoinGroupRequest {
            group_id: join.group.as_str().into(),
            session_timeout_ms: millis(join.session_timeout_ms),
            rebalance_timeout_ms: millis(join.rebalance_timeout_ms),
            member_id: join.member_id.as_ref().map(|id| id.as_str().into()).unwrap_or_default(),
            group_instance_id: join.instance_id.as_ref().map(|id| id.as_str().into()),
            protocol_type: (&*join.protocol_type).into(),
            protocols: protocols.collect(),
            reason: None,
        };
        let longer = Duration::from_millis(join.rebalance_timeout_ms.into());
        let told = match self.ask(client, &request, longer).await? {
            Ok(told) => told,
            Err(error) => return Ok(Err(error)),
        };
        if !told.error_code.is_none() {
            return self.refusal(told.error_code, &told.member_id).map(Err);
        }
        Ok(Ok(joined(told, join)))
    }

    async fn sync(
        &mut self,
        client: &mut Client,
        sync: SyncGroup,
    ) -> Result<Result<SyncedGroup, GroupError>, ClientError> {
        let assignments = sync.assignments.into_iter().map(|(id, assignment)| {
            SyncGroupRequestAssignment { member_id: id.as_str().into(), assignment }
        });
        let request = SyncGroupRequest {
            group_id: sync.group.as_str().into(),
            generation_id: sync.generation.map_or(-1, GenerationId::as_i32),
            member_id: sync.member_id.as_str().into(),
            group_instance_id: sync.instance_id.map(|id| id.as_str().into()),
            protocol_type: sync.protocol_type.as_deref().map(Into::into),
            protocol_name: sync.protocol.as_deref().map(Into::into),
            assignments: assignments.collect(),
        };
        let options = self.core.options();
        let longer = Duration::from_millis(options.rebalance_timeout_ms.into());
        let told = match self.ask(client, &request, longer).await? {
            Ok(told) => told,
            Err(error) => return Ok(Err(error)),
        };
        if !told.error_code.is_none() {
            return self.refusal(told.error_code, "").map(Err);
        }
        let name = |name: Option<&str>| name.unwrap_or_default().into();
        Ok(Ok(SyncedGroup {
            protocol_type: name(told.protocol_type.as_deref()),
            protocol: name(told.protocol_name.as_deref()),
            assignment: told.assignment,
        }))
    }

    async fn beat(
        &mut self,
        client: &mut Client,
        beat: &Heartbeat,
    ) -> Result<Result<(), GroupError>, ClientError> {
        let request = HeartbeatRequest {
            group_id: beat.group.as_str().into(),
            generation_id: beat.generation.map_or(-1, GenerationId::as_i32),
            member_id: beat.member_id.as_str().into(),
            group_instance_id: beat.instance_id.as_ref().map(|id| id.as_str().into()),
        };
        let told = match self.ask(client, &request, Duration::ZERO).await? {
            Ok(told) => told,
            Err(error) => return Ok(Err(error)),
        };
        match told.error_code {
            ErrorCode::None => Ok(Ok(())),
            code => self.refusal(code, "").map(Err),
        }
    }
}

/// What the coordinator has answered to `join`; versions that leave something out mean what was asked.
fn joined(told: JoinGroupResponse, join: &JoinGroup) -> JoinedGroup {
    let members = told.members.into_iter().map(|member| JoinedMember {
        member_id: MemberId::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(InstanceId::from),
        metadata: member.metadata,
    });
    let protocol_type = told.protocol_type.as_deref().map(Into::into);
    JoinedGroup {
        generation: GenerationId::from_i32(told.generation_id).unwrap_or_default(),
        protocol_type: protocol_type.unwrap_or_else(|| join.protocol_type.clone()),
        protocol: told.protocol_name.as_deref().unwrap_or_default().into(),
        leader: MemberId::from(&*told.leader),
        is_assignment_skipped: told.skip_assignment,
        member_id: MemberId::from(&*told.member_id),
        members: members.collect(),
    }
}
