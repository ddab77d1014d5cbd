//! Leaving.

use super::{ClassicGroup, GroupError, GroupState, Timer, Turn};
use crate::broker::group_coordinator::messages::{LeaveGroup, LeavingMember, LeftGroup};

impl ClassicGroup {
    pub(in super::super) fn leave(
        &mut self,
        turn: &mut Turn,
        request: LeaveGroup,
    ) -> Result<LeftGroup, GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let left = self.leave_one(turn, &leaving);
            members.push((leaving, left));
        }
        if members.iter().any(|(_, left)| left.is_ok()) {
            self.rebalance_after_leave(turn);
        }
        self.check();
        Ok(LeftGroup { members })
    }

    fn leave_one(&mut self, turn: &mut Turn, leaving: &LeavingMember) -> Result<(), GroupError> {
        let member_id = match (&leaving.member_id, &leaving.instance_id) {
            (Some(member_id), instance_id) => {
                if instance_id.is_none() && self.pending.remove(member_id) {
                    turn.timers.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
                    return Ok(());
                }
                self.check_member(member_id, instance_id.as_ref())?;
                member_id.clone()
            }
            // An administrator removes a static member by its lasting name alone.
            (None, Some(instance_id)) => {
                self.statics.get(instance_id).cloned().ok_or(GroupError::UnknownMemberId)?
            }
            (None, None) => return Err(GroupError::UnknownMemberId),
        };
        self.remove_member(turn, &member_id, &GroupError::UnknownMemberId);
        Ok(())
    }

    fn rebalance_after_leave(&mut self, turn: &mut Turn) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(turn),
            GroupState::PreparingRebalance => self.maybe_complete_join(turn),
            GroupState::Empty | GroupState::Dead => {}
        }
    }
}
