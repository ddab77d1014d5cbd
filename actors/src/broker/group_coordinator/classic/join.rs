//! Joining, and how a rebalance begins and its first half ends.

use std::collections::BTreeMap;

use super::{
    Arc, Bytes, ClassicGroup, GroupError, GroupState, InstanceId, JoinGroup, Member, MemberId,
    Reply, ReplyId, Timer, Turn,
};
use crate::broker::group_coordinator::{
    messages::{JoinedGroup, JoinedMember},
    turn::Then,
};

/// Most bytes of a client's name that its member id begins with: there is room for the rest of it in a
/// text of at most 32767 bytes, as Kafka's older messages have it.
const STEM_BYTES_MAX: usize = i16::MAX as usize - "-00000000-0000-0000-0000-000000000000".len();

impl ClassicGroup {
    pub(in super::super) fn join(&mut self, turn: &mut Turn, reply: ReplyId, request: JoinGroup) {
        let refusal = match &request.member_id {
            _ if self.state == GroupState::Dead => Some(GroupError::CoordinatorNotAvailable),
            known => self.check_join(turn, &request, known.as_ref()).err(),
        };
        match (refusal, request.member_id.clone()) {
            (Some(why), _) => turn.reply(reply, Reply::Join(Err(why))),
            (None, None) => self.join_first(turn, reply, request),
            (None, Some(member_id)) => self.join_again(turn, reply, member_id, request),
        }
        self.check();
    }

    fn check_join(
        &self,
        turn: &Turn,
        request: &JoinGroup,
        member_id: Option<&MemberId>,
    ) -> Result<(), GroupError> {
        let members_max = turn.options.members_max;
        let is_counted =
            member_id.is_some_and(|id| self.members.contains_key(id) || self.pending.contains(id));
        let takes_over =
            request.instance_id.as_ref().is_some_and(|id| self.statics.contains_key(id));
        if !is_counted && !takes_over && self.members.len() + self.pending.len() >= members_max {
            return Err(GroupError::GroupMaxSizeReached { members_max });
        }
        let shares = |name: &str| self.members.values().all(|member| member.speaks(name));
        let is_same_type = self.members.is_empty()
            || self.protocol_type.as_deref() == Some(&*request.protocol_type);
        let is_fit = is_same_type
            && !request.protocol_type.is_empty()
            && request.protocols.iter().any(|protocol| shares(&protocol.name));
        if is_fit { Ok(()) } else { Err(GroupError::InconsistentGroupProtocol) }
    }

    fn join_first(&mut self, turn: &mut Turn, reply: ReplyId, request: JoinGroup) {
        let stem = request.instance_id.as_ref().map_or(&*request.client_id, InstanceId::as_str);
        let stem = &stem[..stem.floor_char_boundary(STEM_BYTES_MAX)];
        let member_id =
            std::iter::repeat_with(|| MemberId::from(format!("{stem}-{}", turn.rng.uuid())))
                .find(|id| !self.members.contains_key(id) && !self.pending.contains(id))
                .expect("names do not run out");
        let instance_id = request.instance_id.clone();
        match instance_id {
            Some(id) if self.statics.contains_key(&id) => {
                self.replace_static(turn, reply, &id, member_id, request);
            }
            None if request.needs_known_id => {
                // Only a client that hears the answer comes back: none that gave up leaves a member.
                self.pending.insert(member_id.clone());
                let timer = Timer::Session(self.id.clone(), member_id.clone());
                turn.set_timer(timer, u64::from(request.session_timeout_ms));
                turn.reply(reply, Reply::Join(Err(GroupError::MemberIdRequired(member_id))));
            }
            _ => self.add_member(turn, reply, member_id, request),
        }
    }

    fn join_again(&mut self, turn: &mut Turn, reply: ReplyId, id: MemberId, request: JoinGroup) {
        if self.pending.contains(&id) && request.instance_id.is_none() {
            return self.add_member(turn, reply, id, request);
        }
        if let Err(why) = self.check_member(&id, request.instance_id.as_ref()) {
            return turn.reply(reply, Reply::Join(Err(why)));
        }
        let is_same = self.members.get(&id).is_some_and(|m| m.protocols == request.protocols);
        let is_leader = self.leader.as_ref() == Some(&id);
        match self.state {
            // It missed its answer, or only asks what it is in.
            GroupState::CompletingRebalance if is_same => {
                self.renew_session(turn, &id);
                turn.reply(reply, Reply::Join(Ok(self.joined(&id, is_leader, false))));
            }
            GroupState::Stable if is_same && !is_leader => {
                self.renew_session(turn, &id);
                turn.reply(reply, Reply::Join(Ok(self.joined(&id, false, false))));
            }
            GroupState::Empty | GroupState::Dead => {
                turn.reply(reply, Reply::Join(Err(GroupError::UnknownMemberId)));
            }
            // A leader that joins again asks for a rebalance: topics may have grown.
            _ => self.park_join(turn, reply, &id, request),
        }
    }

    fn add_member(&mut self, turn: &mut Turn, reply: ReplyId, id: MemberId, request: JoinGroup) {
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.state == GroupState::PreparingRebalance && self.previous == GroupState::Empty {
            self.is_growing = true;
        }
        if let Some(instance_id) = &request.instance_id {
            self.statics.insert(instance_id.clone(), id.clone());
        }
        let order = self.next_order;
        self.next_order += 1;
        self.members.insert(
            id.clone(),
            Member {
                instance_id: request.instance_id,
                client_id: request.client_id,
                client_host: request.client_host,
                session_timeout_ms: request.session_timeout_ms,
                rebalance_timeout_ms: request.rebalance_timeout_ms,
                protocols: request.protocols,
                assignment: Bytes::new(),
                joining: None,
                syncing: None,
                is_new: true,
                order,
            },
        );
        self.leader.get_or_insert_with(|| id.clone());
        let timer = Timer::Session(self.id.clone(), id.clone());
        turn.set_timer(timer, u64::from(turn.options.new_member_timeout_ms));
        self.rebalance_with(turn, reply, &id);
    }

    fn park_join(&mut self, turn: &mut Turn, reply: ReplyId, id: &MemberId, request: JoinGroup) {
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = request.protocols;
            member.session_timeout_ms = request.session_timeout_ms;
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            if !member.is_new {
                // A parked member cannot send heartbeats, and needs none.
                turn.timers.cancel(&Timer::Session(self.id.clone(), id.clone()));
            }
        }
        self.rebalance_with(turn, reply, id);
    }

    /// Rebalances, with the join of `id` parked for it.
    fn rebalance_with(&mut self, turn: &mut Turn, reply: ReplyId, id: &MemberId) {
        if self.state.may_become(GroupState::PreparingRebalance) {
            self.begin_rebalance(turn);
        }
        if let Some(member) = self.members.get_mut(id)
            && let Some(stale) = member.joining.replace(reply)
        {
            turn.reply(stale, Reply::Join(Err(GroupError::RebalanceInProgress)));
        }
        self.continue_rebalance(turn);
    }

    /// A static member came back without its name: its new life takes its place.
    fn replace_static(
        &mut self,
        turn: &mut Turn,
        reply: ReplyId,
        instance_id: &InstanceId,
        id: MemberId,
        request: JoinGroup,
    ) {
        let Some(old) = self.statics.insert(instance_id.clone(), id.clone()) else { return };
        let Some(mut member) = self.members.remove(&old) else { return };
        turn.timers.cancel(&Timer::Session(self.id.clone(), old.clone()));
        if let Some(stale) = member.joining.take() {
            turn.reply(stale, Reply::Join(Err(GroupError::FencedInstanceId)));
        }
        if let Some(stale) = member.syncing.take() {
            turn.reply(stale, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        if self.unsynced.remove(&old) {
            self.unsynced.insert(id.clone());
        }
        let leader_before = self.leader.clone();
        if self.leader.as_ref() == Some(&old) {
            self.leader = Some(id.clone());
        }
        let can_skip = request.can_skip_assignment;
        member.client_id = request.client_id.clone();
        member.client_host = request.client_host.clone();
        member.protocols.clone_from(&request.protocols);
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.members.insert(id.clone(), member);
        if self.state != GroupState::Stable || self.vote() != self.protocol {
            return self.park_join(turn, reply, &id, request);
        }
        self.renew_session(turn, &id);
        // Nothing to assign anew: the others never notice. An old leader that cannot be told so is
        // given its former name as the leader's, and takes itself for a follower.
        let is_leader = self.leader.as_ref() == Some(&id);
        let mut joined = self.joined(&id, is_leader && can_skip, is_leader && can_skip);
        if !can_skip && let Some(before) = leader_before {
            joined.leader = before;
        }
        let current = self.members.iter().map(|(id, m)| (id.clone(), m.assignment.clone()));
        let record = self.record(&current.collect());
        turn.write(&self.id, vec![record], Then::Reply(reply, Reply::Join(Ok(joined))));
    }

    // ---- Rebalances ------------------------------------------------------------------------------

    /// Begins a rebalance, and ends its first half if nobody is waited for.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn) {
        self.begin_rebalance(turn);
        self.continue_rebalance(turn);
    }

    fn begin_rebalance(&mut self, turn: &mut Turn) {
        if self.state == GroupState::CompletingRebalance {
            self.cancel_assignment(turn, &GroupError::RebalanceInProgress);
        }
        turn.timers.cancel(&Timer::Sync(self.id.clone()));
        self.unsynced.clear();
        self.become_state(turn, GroupState::PreparingRebalance);
        if self.previous == GroupState::Empty {
            let delay_ms = u64::from(turn.options.initial_rebalance_delay_ms);
            self.is_growing = false;
            self.prolonging_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            turn.set_timer(Timer::Join(self.id.clone()), delay_ms);
        }
    }

    fn continue_rebalance(&mut self, turn: &mut Turn) {
        let timer = Timer::Join(self.id.clone());
        if self.previous != GroupState::Empty && self.has_all_joined() {
            self.complete_join(turn);
        } else if self.state == GroupState::PreparingRebalance && !turn.timers.is_set(&timer) {
            turn.set_timer(timer, self.rebalance_timeout_ms());
        }
    }

    /// Ends the first half of a rebalance, if one is on and nobody is waited for. The first
    /// rebalance of a group is ended by its timer alone.
    pub(super) fn maybe_complete_join(&mut self, turn: &mut Turn) {
        let is_waiting = self.state == GroupState::PreparingRebalance;
        if is_waiting && self.previous != GroupState::Empty && self.has_all_joined() {
            self.complete_join(turn);
        }
    }

    fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// The time to join is over.
    pub(in super::super) fn on_join_timeout(&mut self, turn: &mut Turn) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        if self.previous == GroupState::Empty && self.is_growing && self.prolonging_ms > 0 {
            let delay_ms = u64::from(turn.options.initial_rebalance_delay_ms).max(1);
            let delay_ms = delay_ms.min(self.prolonging_ms);
            self.is_growing = false;
            self.prolonging_ms -= delay_ms;
            return turn.set_timer(Timer::Join(self.id.clone()), delay_ms);
        }
        self.complete_join(turn);
        self.check();
    }

    fn complete_join(&mut self, turn: &mut Turn) {
        turn.timers.cancel(&Timer::Join(self.id.clone()));
        // A static member may be away for a restart: only its session timeout ends it.
        let is_late = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        for member_id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.remove_member(turn, &member_id, &GroupError::UnknownMemberId);
        }
        if self.members.is_empty() {
            return self.complete_empty(turn);
        }
        let Some(first) = self.earliest(|member| member.joining.is_some()) else {
            // Only static members, all of them away. A timeout of zero must not turn into a spin.
            let timeout_ms = self.rebalance_timeout_ms().max(1_000);
            return turn.set_timer(Timer::Join(self.id.clone()), timeout_ms);
        };
        let leader_joins = |leader: &MemberId| {
            self.members.get(leader).is_some_and(|member| member.joining.is_some())
        };
        if !self.leader.as_ref().is_some_and(leader_joins) {
            self.leader = Some(first);
        }
        self.generation = self.generation.next();
        self.protocol = self.vote();
        self.read_topics();
        self.become_state(turn, GroupState::CompletingRebalance);
        self.unsynced = self.members.keys().cloned().collect();
        turn.set_timer(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
        for member_id in self.in_order() {
            self.answer_join(turn, &member_id);
        }
    }

    fn complete_empty(&mut self, turn: &mut Turn) {
        self.generation = self.generation.next();
        self.protocol = None;
        self.topics = None;
        self.become_state(turn, GroupState::Empty);
        // Lost, it leaves a membership whose members will expire once more.
        let record = self.record(&BTreeMap::new());
        turn.write(&self.id, vec![record], Then::Nothing);
    }

    fn answer_join(&mut self, turn: &mut Turn, member_id: &MemberId) {
        self.renew_session(turn, member_id);
        let joined = self.joined(member_id, self.leader.as_ref() == Some(member_id), false);
        if let Some(member) = self.members.get_mut(member_id) {
            member.is_new = false;
            if let Some(reply) = member.joining.take() {
                turn.reply(reply, Reply::Join(Ok(joined)));
            }
        }
    }

    fn joined(&self, member_id: &MemberId, as_leader: bool, is_skipped: bool) -> JoinedGroup {
        let protocol = self.protocol.clone().unwrap_or_else(|| "".into());
        let members = if as_leader { self.in_order() } else { Vec::new() };
        let describe = |id: MemberId| {
            let member = self.members.get(&id)?;
            let (instance_id, metadata) = (member.instance_id.clone(), member.metadata(&protocol));
            Some(JoinedMember { member_id: id, instance_id, metadata })
        };
        JoinedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type(),
            leader: self.leader.clone().unwrap_or_else(|| member_id.clone()),
            is_assignment_skipped: is_skipped,
            member_id: member_id.clone(),
            members: members.into_iter().filter_map(describe).collect(),
            protocol,
        }
    }

    /// The assignor that all speak and most like best; of several, the one that the earliest
    /// member likes best.
    fn vote(&self) -> Option<Arc<str>> {
        let is_common = |name: &str| self.members.values().all(|member| member.speaks(name));
        let mut votes = Vec::<(Arc<str>, usize)>::new();
        for member_id in self.in_order() {
            let Some(member) = self.members.get(&member_id) else { continue };
            let Some(choice) = member.protocols.iter().find(|known| is_common(&known.name)) else {
                continue;
            };
            match votes.iter_mut().find(|(name, _)| *name == choice.name) {
                Some((_, count)) => *count += 1,
                None => votes.push((choice.name.clone(), 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)
    }
}
