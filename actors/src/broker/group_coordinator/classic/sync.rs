//! Handing out assignments: the second half of a rebalance.

use std::collections::BTreeMap;

use super::{
    Bytes, ClassicGroup, GroupError, GroupState, Member, MemberId, Reply, ReplyId, Timer, Turn,
};
use crate::broker::group_coordinator::{
    ids::GenerationId,
    messages::{SyncGroup, SyncedGroup},
    turn::Then,
};

impl ClassicGroup {
    pub(in super::super) fn sync(&mut self, turn: &mut Turn, reply: ReplyId, request: SyncGroup) {
        if let Err(why) = self.check_sync(&request) {
            return turn.reply(reply, Reply::Sync(Err(why)));
        }
        let member_id = request.member_id;
        self.unsynced.remove(&member_id);
        if self.unsynced.is_empty() {
            turn.timers.cancel(&Timer::Sync(self.id.clone()));
        }
        if self.state == GroupState::Stable {
            self.renew_session(turn, &member_id);
            let synced = self.members.get(&member_id).map(|member| self.synced(member));
            return turn.reply(reply, Reply::Sync(synced.ok_or(GroupError::UnknownMemberId)));
        }
        turn.timers.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
        if let Some(member) = self.members.get_mut(&member_id)
            && let Some(stale) = member.syncing.replace(reply)
        {
            turn.reply(stale, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.leader.as_ref() == Some(&member_id) && self.assigning.is_none() {
            let assignments: BTreeMap<MemberId, Bytes> = request.assignments.into_iter().collect();
            let record = self.record(&assignments);
            self.assigning = Some(assignments);
            turn.write(&self.id, vec![record], Then::Assign(self.id.clone(), self.generation));
        }
        self.check();
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != Some(self.generation) {
            return Err(GroupError::IllegalGeneration);
        }
        let is_ours = |claimed: &Option<_>, ours: &Option<_>| claimed.is_none() || claimed == ours;
        if !is_ours(&request.protocol_type, &self.protocol_type)
            || !is_ours(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    fn synced(&self, member: &Member) -> SyncedGroup {
        SyncedGroup {
            protocol_type: self.protocol_type(),
            protocol: self.protocol.clone().unwrap_or_else(|| "".into()),
            assignment: member.assignment.clone(),
        }
    }

    /// The assignments of `generation` are committed, or could not be written.
    pub(in super::super) fn on_assigned(
        &mut self,
        turn: &mut Turn,
        generation: GenerationId,
        written: Result<(), GroupError>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return;
        }
        if let Err(why) = written {
            self.cancel_assignment(turn, &why);
            return self.prepare_rebalance(turn);
        }
        let mut assignments = self.assigning.take().unwrap_or_default();
        self.become_state(turn, GroupState::Stable);
        for member_id in self.in_order() {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.assignment = assignments.remove(&member_id).unwrap_or_default();
            if let Some(reply) = member.syncing.take() {
                let synced = self.members.get(&member_id).map(|member| self.synced(member));
                turn.reply(reply, Reply::Sync(synced.ok_or(GroupError::UnknownMemberId)));
                self.renew_session(turn, &member_id);
            }
        }
        self.check();
    }

    /// Takes all assignments back, and answers parked syncs with `why`.
    pub(super) fn cancel_assignment(&mut self, turn: &mut Turn, why: &GroupError) {
        self.assigning = None;
        for member_id in self.in_order() {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.assignment = Bytes::new();
            if let Some(reply) = member.syncing.take() {
                turn.reply(reply, Reply::Sync(Err(why.clone())));
                self.renew_session(turn, &member_id);
            }
        }
    }

    /// The time to ask for assignments is over: whoever did not is no member any more.
    pub(in super::super) fn on_sync_timeout(&mut self, turn: &mut Turn) {
        let is_syncing = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !is_syncing || self.unsynced.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.unsynced) {
            self.remove_member(turn, &member_id, &GroupError::UnknownMemberId);
        }
        self.prepare_rebalance(turn);
        self.check();
    }
}
