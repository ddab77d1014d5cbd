//! Reading as a group: what its member is given and gives up, and what is committed for it.

use std::collections::BTreeMap;

use flumen_actors::{
    broker::{group_coordinator::error::GroupError, names::TopicPartition},
    gateway::error_code::ErrorCode,
};

use super::{
    super::{CliError, print::counted, tell},
    reader::{Group, Part, Reader},
};
use crate::client::{Change, ClientError, Committed, Place};

fn parts(partitions: &[TopicPartition]) -> Vec<Part> {
    let part =
        |of: &TopicPartition| Some((of.topic.to_string(), i32::try_from(of.partition.0).ok()?));
    partitions.iter().filter_map(part).collect()
}

impl Reader {
    /// Takes up what the group gave, and lets go of what it took.
    pub(super) async fn change(&mut self, changes: Vec<Change>) -> Result<(), CliError> {
        for change in changes {
            match change {
                Change::Taken(partitions) => self.let_go(&parts(&partitions)),
                Change::Given(partitions) => {
                    let given = parts(&partitions);
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
    async fn positions_of(&mut self, given: &[Part]) -> Result<BTreeMap<Part, i64>, CliError> {
        let group = self.options.group.name().unwrap_or_default().to_owned();
        let committed = self.session.client.committed(&group).await?;
        let mut new: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for part in given.iter().filter(|part| !self.options.begins.contains_key(*part)) {
            new.entry(&part.0).or_default().push(part.1);
        }
        for (name, numbers) in new {
            // It has grown since it was looked at, or was made again.
            if let Some(topic) = self.session.client.topic(name, false).await? {
                self.topics.insert(name.to_owned(), topic);
            }
            let Some(topic) = self.topics.get(name) else { continue };
            let found = self.session.client.offsets(topic, &numbers, Place::Earliest).await?;
            let begins = found.into_iter().map(|(number, offset)| {
                ((name.to_owned(), number), offset.ok().flatten().unwrap_or_default())
            });
            self.options.begins.extend(begins);
        }
        let begins = &self.options.begins;
        let position = |part: &Part| {
            let kept = committed.get(part).or_else(|| begins.get(part)).copied();
            (part.clone(), kept.unwrap_or_default())
        };
        let is_there = |part: &&Part| self.topics.contains_key(&part.0);
        Ok(given.iter().filter(is_there).map(position).collect())
    }

    /// Commits how far was printed. A group that has gone on without its member lets nothing be
    /// committed: what was printed may be printed by another again.
    pub(super) async fn commit(&mut self, moved: &Committed) -> Result<(), CliError> {
        let client = &mut self.session.client;
        let member = match &mut self.options.group {
            Group::None => return Ok(()),
            Group::Apart(group) => return Ok(client.commit(group, moved).await?),
            Group::Member(member) => member,
        };
        let group = member.group().to_owned();
        let refused = client.commit_as(&group, member.identity().as_ref(), moved).await;
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
