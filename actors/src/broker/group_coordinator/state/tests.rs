//! A world of one shard, its log, and virtual time; stories in it, and members that come and go.

mod random;
mod stories;

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_runtime::ids::Offset;

use super::*;
use crate::broker::{
    group_coordinator::{
        ids::{GenerationId, InstanceId, MemberId},
        messages::*,
        protocol::Subscription,
        records::CommittedOffset,
    },
    names::{PartitionId, TopicName, TopicPartition},
};

pub(super) const SESSION_MS: u64 = 10_000;
pub(super) const REBALANCE_MS: u64 = 30_000;
const UNIX_START_MS: i64 = 1_700_000_000_000;

impl Shard {
    /// What is counted of all groups is what they come to.
    fn check_totals(&self) {
        let bytes = |entry: &Entry| {
            let Group::Classic(group) = &entry.group;
            group.bytes()
        };
        assert_eq!(self.bytes, self.groups.values().map(bytes).sum::<usize>());
        assert_eq!(self.weight, self.groups.keys().map(weight).sum::<usize>());
    }
}

/// A shard, the log that it writes, and the time.
pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) options: Options,
    pub(super) log: Vec<GroupRecord>,
    in_flight: Option<Vec<GroupRecord>>,
    pub(super) replies: BTreeMap<ReplyId, Reply>,
    pub(super) open: Vec<ReplyId>,
    pub(super) now_ms: u64,
    wake_at_ms: Option<u64>,
    next_reply: u64,
    lives: u64,
    /// Whether appends wait for [`World::commit`].
    pub(super) holds_commits: bool,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let shard = Shard::new(options.clone(), Rng::seeded(7));
        let mut world = Self {
            shard,
            options,
            log: Vec::new(),
            in_flight: None,
            replies: BTreeMap::new(),
            open: Vec::new(),
            now_ms: 0,
            wake_at_ms: None,
            next_reply: 0,
            lives: 0,
            holds_commits: false,
        };
        let effects = world.shard.start(world.now());
        world.carry_out(effects);
        world
    }

    fn now(&self) -> Now {
        Now { steady_ms: self.now_ms, unix_ms: UNIX_START_MS + self.now_ms.cast_signed() }
    }

    pub(super) fn ask(&mut self, request: Request) -> ReplyId {
        self.next_reply += 1;
        let id = ReplyId(self.next_reply);
        self.open.push(id);
        self.step(Input::Ask(id, request));
        id
    }

    /// Asks what is answered at once.
    pub(super) fn ask_now(&mut self, request: Request) -> Reply {
        let id = self.ask(request);
        self.answer(id)
    }

    pub(super) fn answer(&mut self, id: ReplyId) -> Reply {
        self.replies.remove(&id).expect("answered")
    }

    pub(super) fn is_answered(&self, id: ReplyId) -> bool {
        self.replies.contains_key(&id)
    }

    fn step(&mut self, input: Input) {
        let effects = self.shard.step(self.now(), input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        for (id, reply) in effects.replies {
            let open = self.open.iter().position(|open| *open == id);
            self.open.remove(open.expect("each request is answered once"));
            self.replies.insert(id, reply);
        }
        self.shard.check_totals();
        self.wake_at_ms = effects.wake_at_ms;
        if !effects.append.is_empty() {
            assert!(self.in_flight.is_none(), "one append at a time");
            self.in_flight = Some(effects.append);
        }
        if !self.holds_commits {
            self.commit();
        }
    }

    pub(super) fn commit(&mut self) {
        if let Some(records) = self.in_flight.take() {
            self.log.extend(records);
            self.step(Input::Committed);
        }
    }

    pub(super) fn refuse(&mut self) {
        if self.in_flight.take().is_some() {
            self.step(Input::Refused(GroupError::CoordinatorNotAvailable));
        }
    }

    /// Lets time pass, with every wake-up in it.
    pub(super) fn advance(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(wake_at_ms) = self.wake_at_ms.filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(wake_at_ms);
            self.step(Input::Elapsed);
        }
        self.now_ms = end_ms;
    }

    /// The coordinator dies and another replays the log. What is in flight is lost or not.
    pub(super) fn restart(&mut self, keeps_in_flight: bool) {
        if let Some(records) = self.in_flight.take()
            && keeps_in_flight
        {
            self.log.extend(records);
        }
        self.lives += 1;
        self.open.clear();
        self.shard = Shard::new(self.options.clone(), Rng::seeded(7 + self.lives));
        for record in &self.log {
            // Through its bytes, as from a real log.
            let (key, value) = record.encode();
            let read = super::super::records::decode(&key, value.as_deref()).unwrap().unwrap();
            self.shard.replay(read);
        }
        let effects = self.shard.start(self.now());
        self.carry_out(effects);
    }

    pub(super) fn describe(&mut self) -> Option<DescribedGroup> {
        match self.ask_now(Request::DescribeGroup(DescribeGroup { group: group() })) {
            Reply::DescribeGroup(described) => described.ok(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&mut self) -> GroupState {
        self.describe().map_or(GroupState::Dead, |described| described.state)
    }

    pub(super) fn fetch(&mut self, partition: u32) -> Option<CommittedOffset> {
        let partitions = Some(vec![tp(partition)]);
        match self.ask_now(Request::FetchOffsets(FetchOffsets { group: group(), partitions })) {
            Reply::FetchOffsets(Ok(mut fetched)) => fetched.partitions.remove(0).1,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn group() -> GroupId {
    "g".into()
}

pub(super) fn tp(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionId(partition) }
}

pub(super) fn subscription() -> Bytes {
    let topics = vec![TopicName::new("t").unwrap()];
    Subscription { topics, ..Subscription::default() }.encode()
}

pub(super) fn join(member_id: Option<MemberId>) -> JoinGroup {
    JoinGroup {
        group: group(),
        member_id,
        instance_id: None,
        client_id: "client".into(),
        client_host: "/host".into(),
        session_timeout_ms: SESSION_MS as u32,
        rebalance_timeout_ms: REBALANCE_MS as u32,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: subscription() }],
        needs_known_id: false,
        can_skip_assignment: true,
    }
}

pub(super) fn sync(joined: &JoinedGroup, assignments: Vec<(MemberId, Bytes)>) -> Request {
    Request::Sync(SyncGroup {
        group: group(),
        generation: Some(joined.generation),
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol: Some(joined.protocol.clone()),
        assignments,
    })
}

pub(super) fn heartbeat(member_id: &MemberId, generation: GenerationId) -> Request {
    Request::Heartbeat(Heartbeat {
        group: group(),
        generation: Some(generation),
        member_id: member_id.clone(),
        instance_id: None,
    })
}

pub(super) fn leave(member_id: &MemberId) -> Request {
    let member = LeavingMember { member_id: Some(member_id.clone()), instance_id: None };
    Request::Leave(LeaveGroup { group: group(), members: vec![member] })
}

pub(super) fn commit(
    member: Option<(&MemberId, GenerationId)>,
    partition: u32,
    offset: u64,
) -> Request {
    Request::CommitOffsets(CommitOffsets {
        group: group(),
        generation: member.map(|(_, generation)| generation),
        member_id: member.map(|(member_id, _)| member_id.clone()),
        instance_id: None,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            partition: tp(partition),
            topic_id: None,
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "".into(),
        }],
    })
}

pub(super) fn joined(reply: Reply) -> JoinedGroup {
    match reply {
        Reply::Join(Ok(joined)) => joined,
        other => panic!("{other:?}"),
    }
}

pub(super) fn refusal(reply: Reply) -> GroupError {
    match reply {
        Reply::Join(Err(why)) => why,
        Reply::Sync(Err(why)) => why,
        Reply::Heartbeat(Err(why)) => why,
        Reply::Leave(Err(why)) => why,
        Reply::CommitOffsets(Err(why)) => why,
        Reply::ForgetTopic(Err(why)) | Reply::DeleteGroup(Err(why)) => why,
        other => panic!("{other:?}"),
    }
}

pub(super) fn assignment(reply: Reply) -> Bytes {
    match reply {
        Reply::Sync(Ok(synced)) => synced.assignment,
        other => panic!("{other:?}"),
    }
}

pub(super) fn static_join(instance: &str, member_id: Option<MemberId>) -> JoinGroup {
    JoinGroup { instance_id: Some(InstanceId::from(instance)), ..join(member_id) }
}
