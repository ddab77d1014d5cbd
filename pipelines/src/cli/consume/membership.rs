//! Reading as a group: what its member is given and gives up, and what is committed for it.

use std::collections::BTreeMap;

use flumen_actors::{
    broker::{
        group_coordinator::error::GroupError,
        names::{TopicName, TopicPartition},
    },
    gateway::error_code::ErrorCode,
};

use super::{
    super::{CliError, print::counted, tell},
    committed,
    reader::{Group, Reader},
};
use crate::client::{Change, Client, ClientError, Membership, Place, Topic};

/// A turn of `member`, who may be the one that shares out the partitions of `topic`.
pub(super) async fn turn(
    member: &mut Membership,
    client: &mut Client,
    topic: &Topic,
) -> Result<Vec<Change>, ClientError> {
    if let Ok(name) = TopicName::new(&topic.name) {
        member.counts(name, topic.partitions.len() as u32);
    }
    member.turn(client).await
}

/// Those of `partitions` that are of `topic`, by their numbers.
fn numbers(topic: &Topic, partitions: &[TopicPartition]) -> Vec<i32> {
    let of = partitions.iter().filter(|partition| partition.topic.as_str() == topic.name);
    of.filter_map(|partition| i32::try_from(partition.partition.0).ok()).collect()
}

impl Reader {
    /// Takes up what the group gave, and lets go of what it took.
    pub(super) async fn change(&mut self, changes: Vec<Change>) -> Result<(), CliError> {
        for change in changes {
            match change {
                Change::Taken(partitions) => self.let_go(&numbers(&self.topic, &partitions)),
                Change::Given(partitions) => {
                    let given = numbers(&self.topic, &partitions);
                    if !given.is_empty() {
                        let positions = self.positions_of(&given).await?;
                        self.take_up(positions);
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the group goes on in these partitions, or begins.
    async fn positions_of(&mut self, given: &[i32]) -> Result<BTreeMap<i32, i64>, CliError> {
        let client = &mut self.session.client;
        // The topic may have grown since it was looked at.
        if given.iter().any(|number| !self.topic.partitions.contains_key(number))
            && let Some(topic) = client.topic(&self.topic.name, false).await?
        {
            self.topic = topic;
        }
        let group = self.options.group.name().unwrap_or_default().to_owned();
        let committed = client.committed(&group).await?;
        let new: Vec<i32> = given
            .iter()
            .copied()
            .filter(|number| !self.options.begins.contains_key(number))
            .collect();
        for (number, offset) in client.offsets(&self.topic, &new, Place::Earliest).await? {
            self.options.begins.insert(number, offset.ok().flatten().unwrap_or_default());
        }
        let begins = &self.options.begins;
        let position = |number: &i32| {
            let kept = committed.get(&(self.topic.name.clone(), *number)).copied();
            (*number, kept.or_else(|| begins.get(number).copied()).unwrap_or_default())
        };
        Ok(given.iter().map(position).collect())
    }

    /// Commits how far was printed. A group that has gone on without its member lets nothing be
    /// committed: what was printed may be printed by another again.
    pub(super) async fn commit(&mut self, moved: &BTreeMap<i32, i64>) -> Result<(), CliError> {
        let offsets = committed(&self.topic, moved);
        let client = &mut self.session.client;
        let member = match &mut self.options.group {
            Group::None => return Ok(()),
            Group::Apart(group) => return Ok(client.commit(group, &offsets).await?),
            Group::Member(member) => member,
        };
        let group = member.group().to_owned();
        let refused = client.commit_as(&group, member.identity().as_ref(), &offsets).await;
        let why = match refused {
            Ok(()) => return Ok(()),
            Err(ClientError::Refused { code: ErrorCode::UnknownMemberId, .. }) => {
                GroupError::UnknownMemberId
            }
            Err(ClientError::Refused {
                code: ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress,
                ..
            }) => GroupError::IllegalGeneration,
            Err(error) => return Err(error.into()),
        };
        let parts = counted(moved.len() as u64, "partition");
        tell(format_args!(
            "flumen: group `{group}` went on without this member, which was silent too long: what it \
             printed last of {parts} may be printed by another, too"
        ));
        let changes = member.refused(client, why).await?;
        self.change(changes).await
    }

    /// Leaves the group, where this is a member.
    pub(super) async fn leave(&mut self) {
        if let Group::Member(member) = std::mem::take(&mut self.options.group)
            && let Err(error) = member.leave(&mut self.session.client).await
        {
            tell(format_args!("flumen: the group was not told that this member is gone: {error}"));
        }
    }
}
