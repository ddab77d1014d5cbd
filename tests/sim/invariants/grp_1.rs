//! Within one generation no partition is assigned to two members (GRP-1); and a generation's number
//! is not used for another membership later on.

use std::collections::{BTreeMap, BTreeSet};

use flumen_actors::broker::group_coordinator::{
    ids::{GenerationId, GroupId},
    protocol::Assignment,
    records::Membership,
};

/// The memberships of groups, in the order in which they were agreed.
#[derive(Default)]
pub(crate) struct Memberships(BTreeMap<GroupId, GenerationId>);

impl Memberships {
    /// Looks at the next one; answers whether it is of a new generation.
    pub(crate) fn check(&mut self, group: &GroupId, membership: &Membership) -> bool {
        let mut assigned = BTreeSet::new();
        for member in &membership.members {
            let assignment = Assignment::decode(&member.assignment).unwrap_or_default();
            for partition in assignment.partitions {
                assert!(
                    assigned.insert(partition.clone()),
                    "GRP-1: `{group}` gave {partition} to two members in {:?}",
                    membership.generation
                );
            }
        }
        let before = self.0.insert(group.clone(), membership.generation);
        let is_new = before.is_none_or(|before| before < membership.generation);
        assert!(
            before.is_none_or(|before| before <= membership.generation),
            "GRP-1: `{group}` went back from {before:?} to {:?}",
            membership.generation
        );
        is_new
    }

    /// The group is gone; one of its name begins anew.
    pub(crate) fn forget(&mut self, group: &GroupId) {
        self.0.remove(group);
    }
}
