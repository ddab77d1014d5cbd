//! The core of a group coordinator: all groups of one partition of `__consumer_offsets`.
//!
//! ```text
//!   Request ──►┌───────────────┐──► replies now
//!   Elapsed ──►│     Shard     │──► records to append ──► Committed ──► replay ──► parked replies
//!              │ group, group… │──► the next wake-up
//!   log ──replay►──────────────┘
//! ```
//!
//! After Kafka's `CoordinatorRuntime`: a request changes what lasts (offsets, deletion) only by
//! records, which take effect once they are committed, by the same code that replays them at start.
//! One append is in flight; what comes meanwhile gathers into the next.
//!
//! The invariants stand in the module above (what lasts) and in that of the classic group (states).

use std::collections::BTreeMap;

use flumen_runtime::rng::Rng;

use super::{
    classic::ClassicGroup,
    error::GroupError,
    ids::GroupId,
    messages::{
        CommitOffsets, CommittedOffsets, DeleteOffsets, DescribedGroup, FetchOffsets,
        FetchedOffsets, GroupState, JoinGroup, ListGroups, ListedGroup, Reply, Request,
    },
    offsets::Offsets,
    records::GroupRecord,
    turn::{Now, Options, ReplyId, Then, Timer, Turn, Write},
};
use crate::broker::names::TopicName;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Someone asks.
    Ask(ReplyId, Request),
    /// The time that was asked for has come.
    Elapsed,
    /// The records of the append in flight are committed.
    Committed,
    /// The records of the append in flight were not written, and never will be.
    Refused(GroupError),
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Answers to give.
    pub replies: Vec<(ReplyId, Reply)>,
    /// Records to append and have committed, then to be told; none while an append is in flight.
    pub append: Vec<GroupRecord>,
    /// When to come back at the latest, by the steady clock.
    pub wake_at_ms: Option<u64>,
}

/// One protocol's group; KIP-848's will be another.
#[derive(Debug)]
enum Group {
    Classic(ClassicGroup),
}

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
    /// What it keeps of what its members say, in bytes.
    bytes: usize,
}

/// All groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Shard {
    groups: BTreeMap<GroupId, Entry>,
    /// What they count for, all of them together.
    weight: usize,
    /// What they keep of what their members say, in bytes.
    bytes: usize,
    turn: Turn,
}

/// Bytes of its name for which a group counts as one more.
const NAME_BYTES: usize = 256;

/// For how many groups one counts: a very long name for as many as it takes the room of.
fn weight(group: &GroupId) -> usize {
    1 + group.as_str().len() / NAME_BYTES
}

impl Shard {
    /// A shard without groups. Member ids come from `rng`.
    #[must_use]
    pub fn new(options: Options, rng: Rng) -> Self {
        Self { groups: BTreeMap::new(), weight: 0, bytes: 0, turn: Turn::new(options, rng) }
    }

    /// From now on it keeps to these.
    pub fn set_options(&mut self, options: Options) {
        self.turn.options = options;
    }

    /// Replays a record of the log, before the first step.
    pub fn replay(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Offset { group, partition, value } => {
                if value.is_some() || self.groups.contains_key(&group) {
                    self.entry(&group).offsets.replay(partition, value);
                }
            }
            GroupRecord::Group { group, value: Some(value) } => {
                let restored = ClassicGroup::restore(group.clone(), value);
                self.entry(&group).group = Group::Classic(restored);
            }
            GroupRecord::Group { group, value: None } => {
                let since_ms = self.turn.now.unix_ms;
                if let Some(entry) = self.groups.get_mut(&group) {
                    entry.group = Group::Classic(ClassicGroup::new(group.clone(), since_ms));
                }
                self.forget_if_nothing(&group);
            }
        }
    }

    /// The whole log is replayed: members have their session timeout to be heard of.
    pub fn start(&mut self, now: Now) -> Effects {
        self.turn.now = now;
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.weigh(&id);
            let Some(entry) = self.groups.get_mut(&id) else { continue };
            let Group::Classic(group) = &mut entry.group;
            group.start_sessions(&mut self.turn);
        }
        self.turn.set_timer(Timer::Expiry, self.turn.options.expiry_interval_ms);
        self.effects()
    }

    /// Takes in what happened, and says what to do.
    pub fn step(&mut self, now: Now, input: Input) -> Effects {
        self.turn.now = now;
        match input {
            Input::Ask(reply, request) => self.on_request(reply, request),
            Input::Elapsed => {}
            Input::Committed => self.on_committed(),
            Input::Refused(why) => {
                for write in std::mem::take(&mut self.turn.in_flight) {
                    self.refuse(write, &why);
                }
            }
        }
        while let Some(timer) = self.turn.timers.pop_due(now.steady_ms) {
            self.on_timer(&timer);
        }
        self.effects()
    }

    /// The groups there are.
    pub fn groups(&self) -> impl Iterator<Item = &GroupId> {
        self.groups.keys()
    }

    fn effects(&mut self) -> Effects {
        while let Some(write) = self.turn.take_too_large() {
            self.refuse(write, &GroupError::UnknownServer("it is larger than a record may be"));
        }
        let append = self.turn.next_append();
        let replies = std::mem::take(&mut self.turn.replies);
        Effects { replies, append, wake_at_ms: self.turn.timers.next() }
    }

    fn entry(&mut self, group: &GroupId) -> &mut Entry {
        let (since_ms, total) = (self.turn.now.unix_ms, &mut self.weight);
        self.groups.entry(group.clone()).or_insert_with(|| {
            *total += weight(group);
            Entry {
                group: Group::Classic(ClassicGroup::new(group.clone(), since_ms)),
                offsets: Offsets::default(),
                bytes: 0,
            }
        })
    }

    /// The members of a group may be others now, or say something else.
    fn weigh(&mut self, group: &GroupId) {
        let Some(entry) = self.groups.get_mut(group) else { return };
        let Group::Classic(group) = &entry.group;
        let before = std::mem::replace(&mut entry.bytes, group.bytes());
        self.bytes = self.bytes - before + entry.bytes;
    }

    fn remove(&mut self, group: &GroupId) {
        if let Some(entry) = self.groups.remove(group) {
            self.weight -= weight(group);
            self.bytes -= entry.bytes;
        }
    }

    /// Whether the group is there, or one more may be.
    fn has_place(&self, group: &GroupId) -> Result<(), GroupError> {
        let groups_max = self.turn.options.groups_max;
        let has_room = self.weight + weight(group) <= groups_max;
        let has_place = has_room || self.groups.contains_key(group);
        if has_place { Ok(()) } else { Err(GroupError::TooManyGroups { groups_max }) }
    }

    /// Whether there is room for what a member says. One that says no more than before needs none.
    fn has_room(&self, join: &JoinGroup) -> Result<(), GroupError> {
        let grows_by = match self.groups.get(&join.group).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => group.grows_by(join),
            None => join.bytes(),
        };
        let bytes_max = self.turn.options.group_bytes_max;
        let has_room = grows_by == 0 || self.bytes + grows_by <= bytes_max;
        if has_room { Ok(()) } else { Err(GroupError::TooManyBytes { bytes_max }) }
    }

    /// Drops a group of which replaying the log would leave nothing.
    fn forget_if_nothing(&mut self, id: &GroupId) {
        let Some(entry) = self.groups.get(id) else { return };
        let Group::Classic(group) = &entry.group;
        let is_blank = group.is_simple() && group.state() == GroupState::Empty;
        if entry.offsets.is_empty() && is_blank && !group.has_pending_members() {
            self.remove(id);
        }
    }

    // ---- Requests --------------------------------------------------------------------------------

    fn on_request(&mut self, reply: ReplyId, request: Request) {
        let turn = &mut self.turn;
        let known = |group: &GroupId| self.groups.contains_key(group);
        match request {
            Request::Join(join) => self.on_join(reply, join),
            Request::Sync(sync) if known(&sync.group) => {
                let Some(entry) = self.groups.get_mut(&sync.group) else { return };
                let Group::Classic(group) = &mut entry.group;
                group.sync(turn, reply, sync);
            }
            Request::Sync(_) => turn.reply(reply, Reply::Sync(Err(GroupError::UnknownMemberId))),
            Request::Heartbeat(beat) => {
                let answer = match self.groups.get_mut(&beat.group).map(|entry| &mut entry.group) {
                    Some(Group::Classic(group)) => group.heartbeat(turn, &beat),
                    None => Err(GroupError::UnknownMemberId),
                };
                turn.reply(reply, Reply::Heartbeat(answer));
            }
            Request::Leave(leave) => {
                let id = leave.group.clone();
                let answer = match self.groups.get_mut(&id).map(|entry| &mut entry.group) {
                    Some(Group::Classic(group)) => group.leave(turn, leave),
                    None => Err(GroupError::UnknownMemberId),
                };
                turn.reply(reply, Reply::Leave(answer));
                self.weigh(&id);
            }
            Request::CommitOffsets(commit) => self.on_commit_offsets(reply, commit),
            Request::FetchOffsets(fetch) => {
                let fetched = self.fetch_offsets(&fetch);
                self.turn.reply(reply, Reply::FetchOffsets(Ok(fetched)));
            }
            Request::DeleteOffsets(delete) => self.on_delete_offsets(reply, &delete),
            Request::ForgetTopic(forget) => self.on_forget_topic(reply, &forget.topic),
            Request::DeleteGroup(delete) => self.on_delete_group(reply, &delete.group),
            Request::DescribeGroup(describe) => {
                let described = self.describe(&describe.group);
                self.turn.reply(reply, Reply::DescribeGroup(described));
            }
            Request::ListGroups(list) => {
                let listed = self.list(&list);
                self.turn.reply(reply, Reply::ListGroups(Ok(listed)));
            }
        }
    }

    fn on_join(&mut self, reply: ReplyId, join: JoinGroup) {
        let (min_ms, max_ms) =
            (self.turn.options.session_timeout_min_ms, self.turn.options.session_timeout_max_ms);
        let got_ms = join.session_timeout_ms;
        let refusal = if join.group.as_str().is_empty() || !join.group.fits_record() {
            Some(GroupError::InvalidGroupId)
        } else if !(min_ms..=max_ms).contains(&got_ms) {
            Some(GroupError::InvalidSessionTimeout { got_ms, min_ms, max_ms })
        } else if join.bytes() > self.turn.options.record_bytes_max {
            // Its group's record could never be written: nothing of it is kept until then.
            Some(GroupError::UnknownServer("what a member says of itself is too long"))
        } else if join.member_id.is_some() && !self.groups.contains_key(&join.group) {
            Some(GroupError::UnknownMemberId)
        } else {
            self.has_place(&join.group).and_then(|()| self.has_room(&join)).err()
        };
        if let Some(why) = refusal {
            return self.turn.reply(reply, Reply::Join(Err(why)));
        }
        let id = join.group.clone();
        self.entry(&id);
        let Some(Entry { group: Group::Classic(group), .. }) = self.groups.get_mut(&id) else {
            return;
        };
        group.join(&mut self.turn, reply, join);
        self.weigh(&id);
        self.forget_if_nothing(&id);
    }

    fn on_commit_offsets(&mut self, reply: ReplyId, request: CommitOffsets) {
        let id = request.group.clone();
        if !id.fits_record() {
            let answer = Reply::CommitOffsets(Err(GroupError::InvalidGroupId));
            return self.turn.reply(reply, answer);
        }
        if request.generation.is_some() && !self.groups.contains_key(&id) {
            let answer = Reply::CommitOffsets(Err(GroupError::IllegalGeneration));
            return self.turn.reply(reply, answer);
        }
        if let Err(why) = self.has_place(&id) {
            return self.turn.reply(reply, Reply::CommitOffsets(Err(why)));
        }
        self.entry(&id);
        let Some(entry) = self.groups.get_mut(&id) else { return };
        let (Group::Classic(group), turn) = (&mut entry.group, &mut self.turn);
        if let Err(why) = group.allow_commit(turn, &request) {
            turn.reply(reply, Reply::CommitOffsets(Err(why)));
            return self.forget_if_nothing(&id);
        }
        let bytes_max = turn.options.metadata_bytes_max;
        let mut records = Vec::with_capacity(request.offsets.len());
        let mut partitions = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            let partition = offset.partition.clone();
            if offset.metadata.len() > bytes_max {
                let why = GroupError::OffsetMetadataTooLarge { bytes_max };
                partitions.push((partition, Err(why)));
                continue;
            }
            let now_ms = turn.now.unix_ms;
            records.push(entry.offsets.commit(&id, offset, now_ms, request.retention_ms));
            partitions.push((partition, Ok(())));
        }
        let answer = Reply::CommitOffsets(Ok(CommittedOffsets { partitions }));
        if records.is_empty() {
            turn.reply(reply, answer);
            return self.forget_if_nothing(&id);
        }
        turn.write(&id, records, Then::Reply(reply, answer));
    }

    fn fetch_offsets(&self, request: &FetchOffsets) -> FetchedOffsets {
        let offsets = self.groups.get(&request.group).map(|entry| &entry.offsets);
        let partitions = match (&request.partitions, offsets) {
            (Some(wanted), offsets) => {
                let find = |partition| offsets.and_then(|offsets| offsets.get(partition)).cloned();
                wanted.iter().map(|partition| (partition.clone(), find(partition))).collect()
            }
            (None, Some(offsets)) => {
                offsets.all().map(|(at, offset)| (at.clone(), Some(offset.clone()))).collect()
            }
            (None, None) => Vec::new(),
        };
        FetchedOffsets { partitions }
    }

    fn on_delete_offsets(&mut self, reply: ReplyId, request: &DeleteOffsets) {
        let id = &request.group;
        let Some(entry) = self.groups.get_mut(id) else {
            let answer = Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound));
            return self.turn.reply(reply, answer);
        };
        let Group::Classic(group) = &entry.group;
        let refusal = match group.state() {
            GroupState::Dead => Some(GroupError::GroupIdNotFound),
            GroupState::Empty => None,
            _ if group.is_consumer() => None,
            _ => Some(GroupError::NonEmptyGroup),
        };
        if let Some(why) = refusal {
            return self.turn.reply(reply, Reply::DeleteOffsets(Err(why)));
        }
        let (mut records, mut partitions) = (Vec::new(), Vec::new());
        for partition in &request.partitions {
            if group.may_consume(&partition.topic) {
                partitions.push((partition.clone(), Err(GroupError::GroupSubscribedToTopic)));
            } else {
                records.extend(entry.offsets.delete(id, partition));
                partitions.push((partition.clone(), Ok(())));
            }
        }
        let answer = Reply::DeleteOffsets(Ok(CommittedOffsets { partitions }));
        if records.is_empty() {
            return self.turn.reply(reply, answer);
        }
        self.turn.write(id, records, Then::Reply(reply, answer));
    }

    fn on_forget_topic(&mut self, reply: ReplyId, topic: &TopicName) {
        let mut records = Vec::new();
        for (id, entry) in &mut self.groups {
            records.extend(entry.offsets.delete_topic(id, topic));
        }
        let answer = Reply::ForgetTopic(Ok(()));
        match records.first() {
            Some(GroupRecord::Offset { group, .. } | GroupRecord::Group { group, .. }) => {
                let group = group.clone();
                self.turn.write(&group, records, Then::Reply(reply, answer));
            }
            None => self.turn.reply(reply, answer),
        }
    }

    fn on_delete_group(&mut self, reply: ReplyId, id: &GroupId) {
        let state = self.groups.get(id).map(|entry| {
            let Group::Classic(group) = &entry.group;
            group.state()
        });
        match state {
            None | Some(GroupState::Dead) => {
                let answer = Reply::DeleteGroup(Err(GroupError::GroupIdNotFound));
                self.turn.reply(reply, answer);
            }
            Some(GroupState::Empty) => {
                self.delete_group(id, Then::Reply(reply, Reply::DeleteGroup(Ok(()))));
            }
            Some(_) => self.turn.reply(reply, Reply::DeleteGroup(Err(GroupError::NonEmptyGroup))),
        }
    }

    fn delete_group(&mut self, id: &GroupId, then: Then) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        let Group::Classic(group) = &mut entry.group;
        group.die(&self.turn);
        let mut records = entry.offsets.delete_all(id);
        records.push(GroupRecord::Group { group: id.clone(), value: None });
        self.turn.write(id, records, then);
    }

    fn describe(&self, id: &GroupId) -> Result<DescribedGroup, GroupError> {
        let entry = self.groups.get(id).ok_or(GroupError::GroupIdNotFound)?;
        let Group::Classic(group) = &entry.group;
        Ok(group.describe())
    }

    fn list(&self, request: &ListGroups) -> Vec<ListedGroup> {
        let list = |(id, entry): (&GroupId, &Entry)| {
            let Group::Classic(group) = &entry.group;
            let (protocol_type, state) = (group.protocol_type(), group.state());
            ListedGroup { group: id.clone(), protocol_type, state }
        };
        let is_wanted = |group: &ListedGroup| {
            request.states.is_empty() || request.states.contains(&group.state)
        };
        self.groups.iter().map(list).filter(is_wanted).collect()
    }

    // ---- Writes ----------------------------------------------------------------------------------

    fn on_committed(&mut self) {
        assert!(!self.turn.in_flight.is_empty(), "GRP-7: nothing was appended that could commit");
        for write in std::mem::take(&mut self.turn.in_flight) {
            for record in write.records {
                self.apply(record);
            }
            match write.then {
                Then::Nothing => {}
                Then::Reply(to, reply) => self.turn.reply(to, reply),
                Then::Assign(id, generation) => self.on_assigned(&id, generation, Ok(())),
            }
        }
    }

    /// A record written here is committed. Unlike at start, a membership needs no replay: the group
    /// has it, and may have moved on.
    fn apply(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Offset { group, partition, value } => {
                let Some(entry) = self.groups.get_mut(&group) else { return };
                // A group that has lost its last offset stays, without any, until expiry looks at it.
                entry.offsets.settle(&partition);
                entry.offsets.replay(partition, value);
            }
            GroupRecord::Group { value: Some(_), .. } => {}
            GroupRecord::Group { group: id, value: None } => {
                if let Some(Entry { group: Group::Classic(group), .. }) = self.groups.get(&id) {
                    assert!(group.state() == GroupState::Dead, "GRP-3: {id} is deleted alive");
                    self.remove(&id);
                }
            }
        }
    }

    fn refuse(&mut self, write: Write, why: &GroupError) {
        let is_deletion = |r: &GroupRecord| matches!(r, GroupRecord::Group { value: None, .. });
        let was_deletion = write.records.iter().any(is_deletion);
        for record in &write.records {
            if let GroupRecord::Offset { group, partition, .. } = record
                && let Some(entry) = self.groups.get_mut(group)
            {
                entry.offsets.settle(partition);
                self.forget_if_nothing(group);
            }
        }
        if was_deletion && let Some(entry) = self.groups.get_mut(&write.group) {
            let Group::Classic(group) = &mut entry.group;
            group.revive();
        }
        match write.then {
            Then::Nothing => {}
            Then::Reply(to, reply) => self.turn.reply(to, reply.refused(why.clone())),
            Then::Assign(id, generation) => self.on_assigned(&id, generation, Err(why.clone())),
        }
        self.forget_if_nothing(&write.group);
    }

    fn on_assigned(
        &mut self,
        id: &GroupId,
        generation: super::ids::GenerationId,
        written: Result<(), GroupError>,
    ) {
        if let Some(Entry { group: Group::Classic(group), .. }) = self.groups.get_mut(id) {
            group.on_assigned(&mut self.turn, generation, written);
        }
        self.weigh(id);
    }

    // ---- Time ------------------------------------------------------------------------------------

    fn on_timer(&mut self, timer: &Timer) {
        let id = match timer {
            Timer::Session(id, _) | Timer::Join(id) | Timer::Sync(id) => id,
            Timer::Expiry => return self.expire(),
        };
        let Some(entry) = self.groups.get_mut(id) else { return };
        let (Group::Classic(group), turn) = (&mut entry.group, &mut self.turn);
        match timer {
            Timer::Session(_, member_id) => group.on_session_timeout(turn, member_id),
            Timer::Join(_) => group.on_join_timeout(turn),
            Timer::Sync(_) => group.on_sync_timeout(turn),
            Timer::Expiry => {}
        }
        self.weigh(id);
        self.forget_if_nothing(id);
    }

    fn expire(&mut self) {
        self.turn.set_timer(Timer::Expiry, self.turn.options.expiry_interval_ms);
        let (now_ms, retention_ms) =
            (self.turn.now.unix_ms, self.turn.options.offsets_retention_ms);
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            let Some(entry) = self.groups.get_mut(&id) else { continue };
            let Group::Classic(group) = &entry.group;
            let expired = entry.offsets.expired(group, now_ms, retention_ms);
            let is_over = expired.len() == entry.offsets.all().count()
                && !entry.offsets.has_pending()
                && group.state() == GroupState::Empty
                && !group.has_pending_members();
            if is_over {
                self.delete_group(&id, Then::Nothing);
            } else if !expired.is_empty() {
                let delete = |partition| entry.offsets.delete(&id, partition);
                let records = expired.iter().filter_map(delete).collect();
                self.turn.write(&id, records, Then::Nothing);
            }
        }
    }
}

#[cfg(test)]
mod tests;
