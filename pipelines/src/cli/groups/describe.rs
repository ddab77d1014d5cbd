//! `flumen groups describe`: who is in a group, how far each partition was read, and how far that is
//! behind.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Value, json};

use super::{
    super::{
        CliError,
        print::{self, Table, counted, known},
        session::Session,
        tell,
    },
    NO_GROUPS,
};
use crate::client::{GroupDescription, Place};

/// The groups of these names.
pub(super) async fn named(
    session: &mut Session,
    names: &[String],
    json: bool,
) -> Result<(), CliError> {
    let mut groups = Vec::new();
    for name in names {
        groups.push((name.clone(), find(session, name).await?));
    }
    describe(session, &groups, json).await
}

/// All groups that there are.
pub(super) async fn all(session: &mut Session, json: bool) -> Result<(), CliError> {
    let mut groups = Vec::new();
    for listed in session.client.groups().await? {
        // One may be gone since it was listed.
        if let Some(found) = session.client.describe_group(&listed.group).await? {
            groups.push((listed.group, found));
        }
    }
    if groups.is_empty() && !json {
        tell(NO_GROUPS);
    }
    describe(session, &groups, json).await
}

/// A group, or [`CliError::UnknownGroup`].
async fn find(session: &mut Session, name: &str) -> Result<GroupDescription, CliError> {
    if let Some(group) = session.client.describe_group(name).await? {
        return Ok(group);
    }
    let groups = session.client.groups().await?;
    let names: Vec<&str> = groups.iter().map(|group| &*group.group).collect();
    let there = match names.as_slice() {
        [] => "there are no groups yet".to_owned(),
        names => format!("the groups here are {}", names.join(", ")),
    };
    Err(CliError::UnknownGroup { name: name.to_owned(), there })
}

/// How far one partition was read.
struct Progress {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Progress {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

async fn describe(
    session: &mut Session,
    groups: &[(String, GroupDescription)],
    json: bool,
) -> Result<(), CliError> {
    let mut told = Vec::new();
    for (name, group) in groups {
        let progress = progress(session, name, group).await?;
        if json {
            told.push(as_json(name, group, &progress));
        } else {
            print_group(&mut io::stdout().lock(), name, group, &progress)?;
        }
    }
    if json {
        print::json(&told)?;
    }
    Ok(())
}

async fn progress(
    session: &mut Session,
    name: &str,
    group: &GroupDescription,
) -> Result<Vec<Progress>, CliError> {
    let committed = session.client.committed(name).await?;
    let mut all: BTreeMap<(String, i32), (Option<i64>, Option<String>)> =
        committed.into_iter().map(|(key, offset)| (key, (Some(offset), None))).collect();
    for member in &group.members {
        for partition in &member.partitions {
            let number = i32::try_from(partition.partition.0).unwrap_or(i32::MAX);
            let key = (partition.topic.to_string(), number);
            all.entry(key).or_default().1 = Some(member.id.clone());
        }
    }
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in all.keys() {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    let mut ends = BTreeMap::new();
    for (topic, partitions) in topics {
        // One that was deleted since has no end.
        let Some(found) = session.client.topic(&topic, false).await? else { continue };
        for (number, end) in session.client.offsets(&found, &partitions, Place::Latest).await? {
            ends.insert((topic.clone(), number), end.ok().flatten());
        }
    }
    let all = all.into_iter().map(|((topic, partition), (committed, member))| {
        let end = ends.get(&(topic.clone(), partition)).copied().flatten();
        Progress { topic, partition, committed, end, member }
    });
    Ok(all.collect())
}

fn as_json(name: &str, group: &GroupDescription, progress: &[Progress]) -> Value {
    let members = group.members.iter().map(|member| {
        let partitions = member.partitions.iter().map(ToString::to_string);
        json!({
            "member": member.id,
            "client": member.client,
            "host": member.host,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    let partitions = progress.iter().map(|it| {
        json!({
            "topic": it.topic,
            "partition": it.partition,
            "committed": it.committed,
            "end_offset": it.end,
            "lag": it.lag(),
            "member": it.member,
        })
    });
    json!({
        "group": name,
        "state": group.state,
        "assignor": group.assignor,
        "coordinator": group.coordinator,
        "lag": progress.iter().filter_map(Progress::lag).sum::<i64>(),
        "members": members.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn print_group(
    out: &mut impl Write,
    name: &str,
    group: &GroupDescription,
    progress: &[Progress],
) -> Result<(), CliError> {
    let GroupDescription { state, assignor, coordinator, members } = group;
    let assigned = match assignor.as_str() {
        "" => String::new(),
        assignor => format!(", assigned by {assignor}"),
    };
    let behind: i64 = progress.iter().filter_map(Progress::lag).sum();
    let (state, behind) = (in_words(state), counted(behind.unsigned_abs(), "record"));
    writeln!(out, "{name}  {state}{assigned}, coordinator {coordinator}, {behind} behind")?;
    if !members.is_empty() {
        let mut table = Table::new(&["MEMBER", "CLIENT", "HOST", "PARTITIONS"]).indented();
        for member in members {
            let count = member.partitions.len().to_string();
            let (id, client, host) = (&member.id, &member.client, &member.host);
            table.row([id.clone(), client.clone(), host.clone(), count]);
        }
        table.print(out)?;
    }
    if progress.is_empty() {
        return Ok(());
    }
    let heading = ["TOPIC", "PARTITION", "COMMITTED", "END OFFSET", "LAG", "MEMBER"];
    let mut table = Table::new(&heading).indented();
    for it in progress {
        table.row([
            it.topic.clone(),
            it.partition.to_string(),
            known(it.committed),
            known(it.end),
            known(it.lag()),
            known(it.member.clone()),
        ]);
    }
    Ok(table.print(out)?)
}

/// The name of a state, as people write: `PreparingRebalance` is `preparing rebalance`.
fn in_words(state: &str) -> String {
    let mut words = String::with_capacity(state.len() + 2);
    for (at, letter) in state.char_indices() {
        if at > 0 && letter.is_uppercase() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_in_words() {
        assert_eq!(in_words("Stable"), "stable");
        assert_eq!(in_words("PreparingRebalance"), "preparing rebalance");
    }
}
