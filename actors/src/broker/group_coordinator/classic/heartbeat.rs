//! Staying a member: heartbeats, commits, and what silence leads to.

use super::{ClassicGroup, GroupError, GroupState, InstanceId, MemberId, Turn};
use crate::broker::group_coordinator::{
    ids::GenerationId,
    messages::{CommitOffsets, Heartbeat},
};

impl ClassicGroup {
    pub(in super::super) fn heartbeat(
        &mut self,
        turn: &mut Turn,
        request: &Heartbeat,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let instance_id = request.instance_id.as_ref();
        self.check_generation(&request.member_id, instance_id, request.generation)?;
        self.maybe_renew_session(turn, &request.member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => Ok(()),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    fn check_generation(
        &self,
        member_id: &MemberId,
        instance_id: Option<&InstanceId>,
        generation: Option<GenerationId>,
    ) -> Result<(), GroupError> {
        self.check_member(member_id, instance_id)?;
        if generation == Some(self.generation) {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// Starts the session anew, unless the member is parked, which keeps it alive anyway.
    fn maybe_renew_session(&self, turn: &mut Turn, member_id: &MemberId) {
        let is_free = |m: &super::Member| m.joining.is_none() && m.syncing.is_none();
        if self.members.get(member_id).is_some_and(is_free) {
            self.renew_session(turn, member_id);
        }
    }

    /// Whether the sender may commit offsets now; that it does shows that it lives.
    pub(in super::super) fn allow_commit(
        &mut self,
        turn: &mut Turn,
        request: &CommitOffsets,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let claims_membership = request.generation.is_some()
            || request.member_id.is_some()
            || request.instance_id.is_some();
        if request.generation.is_none() && self.state == GroupState::Empty {
            return Ok(());
        }
        let Some(member_id) = request.member_id.as_ref().filter(|_| claims_membership) else {
            return Err(GroupError::UnknownMemberId);
        };
        self.check_generation(member_id, request.instance_id.as_ref(), request.generation)?;
        match self.state {
            // Who owns what is being settled; what was read before must be committed before.
            GroupState::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            _ => {
                self.maybe_renew_session(turn, member_id);
                Ok(())
            }
        }
    }

    /// Nothing was heard of `member_id` for its session timeout.
    pub(in super::super) fn on_session_timeout(&mut self, turn: &mut Turn, member_id: &MemberId) {
        if !self.pending.remove(member_id) {
            let Some(member) = self.members.get(member_id) else { return };
            let is_parked = member.joining.is_some() || member.syncing.is_some();
            if is_parked && !member.is_new {
                return;
            }
            self.remove_member(turn, member_id, &GroupError::UnknownMemberId);
            return self.rebalance(turn);
        }
        self.maybe_complete_join(turn);
        self.check();
    }
}
