//! `flumen groups`: consumer groups, how far they are behind, and where they go on.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    CliError,
    print::{self, Table, counted, known},
    session::{self, NodeArgs, Session},
    tell, time,
};
use crate::client::{Committed, GroupDescription, Place};

/// Options of `flumen groups`.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
pub struct GroupsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Describe this group (the same as `describe GROUP`); without it, list all.
    group: Option<String>,
    /// Print one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists all groups.
    List,
    /// Describes groups: members, how far each partition was read, and how far that is behind.
    Describe {
        /// Which.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Lets a group without members go on elsewhere.
    Reset {
        /// Which; one that is not there is made.
        group: String,
        /// In this topic; may be given more than once. Without it, in all that the group has read.
        #[arg(long, short)]
        topic: Vec<String>,
        /// Only this partition.
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
        partition: Option<i32>,
        /// Where to go on: `beginning`, `end`, an offset, `+N` or `-N` from where it is, or a time as
        /// for `flumen consume`.
        #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
        to: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forgets groups without members.
    Delete {
        /// Which.
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: GroupsArgs) -> Result<(), CliError> {
    let GroupsArgs { action, group, json, node } = args;
    let action = match (action, group) {
        (Some(action), _) => action,
        (None, Some(group)) => Action::Describe { groups: vec![group] },
        (None, None) => Action::List,
    };
    let target = match &action {
        Action::Reset { to, .. } => Some(Target::parse(to)?),
        _ => None,
    };
    session::run(&node, |mut session| async move {
        match action {
            Action::List => list(&mut session, json).await,
            Action::Describe { groups } => describe(&mut session, &groups, json).await,
            Action::Delete { groups } => delete(&mut session, &groups, json).await,
            Action::Reset { group, topic, partition, dry_run, .. } => {
                let to = target.expect("it was parsed above");
                let reset = Reset { group, topics: topic, partition, to, dry_run };
                reset.run(&mut session, json).await
            }
        }
    })
}

async fn list(session: &mut Session, json: bool) -> Result<(), CliError> {
    let groups = session.client.groups().await?;
    if json {
        return Ok(print::json(&groups)?);
    }
    if groups.is_empty() {
        tell("flumen: there are no groups yet");
        return Ok(());
    }
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL"]);
    for group in groups {
        let protocol = Some(group.protocol).filter(|protocol| !protocol.is_empty());
        table.row([group.group, group.state, known(protocol)]);
    }
    Ok(table.print(&mut io::stdout().lock())?)
}

async fn delete(session: &mut Session, groups: &[String], json: bool) -> Result<(), CliError> {
    for (at, group) in groups.iter().enumerate() {
        if let Err(error) = session.client.delete_group(group).await {
            if at > 0 {
                tell(format_args!("flumen: deleted `{}`", groups[..at].join("`, `")));
            }
            return Err(error.into());
        }
    }
    if json {
        return Ok(print::json(&json!({ "action": "deleted", "groups": groups }))?);
    }
    tell(format_args!("flumen: deleted `{}`", groups.join("`, `")));
    Ok(())
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

async fn describe(session: &mut Session, names: &[String], json: bool) -> Result<(), CliError> {
    let mut told = Vec::new();
    for name in names {
        let group = find(session, name).await?;
        let progress = progress(session, name, &group).await?;
        if json {
            told.push(as_json(name, &group, &progress));
        } else {
            print_group(&mut io::stdout().lock(), name, &group, &progress)?;
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

/// Where a group is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Place(Place),
    Offset(i64),
    /// So many records from where it is.
    By(i64),
}

impl Target {
    fn parse(text: &str) -> Result<Self, CliError> {
        let number = || text.parse::<i64>().ok();
        let found = match text {
            "beginning" | "earliest" => Some(Target::Place(Place::Earliest)),
            "end" | "latest" => Some(Target::Place(Place::Latest)),
            _ if text.starts_with(['+', '-']) => number().map(Target::By),
            _ => number()
                .map(Target::Offset)
                .or_else(|| time::parse(text).map(|time| Target::Place(Place::Time(time)))),
        };
        found.ok_or_else(|| CliError::Option {
            option: "--to",
            value: text.to_owned(),
            expected:
                "give `beginning`, `end`, an offset such as `42`, `+10` or `-10` from where it \
                       is, or a time such as `2026-11-25T10:30:00Z` or `2h ago`"
                    .into(),
        })
    }
}

/// A group that is to go on elsewhere.
struct Reset {
    group: String,
    topics: Vec<String>,
    partition: Option<i32>,
    to: Target,
    dry_run: bool,
}

impl Reset {
    async fn run(&self, session: &mut Session, json: bool) -> Result<(), CliError> {
        let before = session.client.committed(&self.group).await?;
        let after = self.plan(session, &before).await?;
        if after.is_empty() {
            return Err(match (self.partition, self.topics.is_empty()) {
                (Some(partition), false) => CliError::Option {
                    option: "--partition",
                    value: partition.to_string(),
                    expected: format!("there is none of `{}`", self.topics.join("`, `")),
                },
                _ => CliError::Option {
                    option: "--topic",
                    value: String::new(),
                    expected: format!(
                        "group `{}` has read nothing yet: name a topic to begin with",
                        self.group
                    ),
                },
            });
        }
        if !self.dry_run {
            session.client.commit(&self.group, &after).await?;
        }
        if json {
            let moved = after.iter().map(|((topic, partition), to)| {
                let from = before.get(&(topic.clone(), *partition));
                json!({ "topic": topic, "partition": partition, "from": from, "to": to })
            });
            let action = if self.dry_run { "nothing" } else { "reset" };
            let moved = moved.collect::<Vec<_>>();
            let done = json!({ "action": action, "group": self.group, "partitions": moved });
            return Ok(print::json(&done)?);
        }
        let mut table = Table::new(&["TOPIC", "PARTITION", "WAS AT", "GOES ON AT"]);
        for ((topic, partition), to) in &after {
            let from = before.get(&(topic.clone(), *partition)).copied();
            table.row([topic.clone(), partition.to_string(), known(from), to.to_string()]);
        }
        table.print(&mut io::stdout().lock())?;
        if self.dry_run {
            tell("flumen: nothing was changed (--dry-run)");
        }
        Ok(())
    }

    async fn plan(&self, session: &mut Session, before: &Committed) -> Result<Committed, CliError> {
        let mut topics = self.topics.clone();
        if topics.is_empty() {
            topics = before.keys().map(|(topic, _)| topic.clone()).collect();
            topics.dedup();
        }
        let mut after = Committed::new();
        for name in topics {
            let topic = session.topic(&name).await?;
            let all = topic.partitions.keys().copied();
            let numbers: Vec<i32> =
                all.filter(|number| self.partition.is_none_or(|only| only == *number)).collect();
            let place = match self.to {
                Target::Place(place) => place,
                _ => Place::Earliest,
            };
            let found = session.client.offsets(&topic, &numbers, place).await?;
            let first = session.client.offsets(&topic, &numbers, Place::Earliest).await?;
            let end = session.client.offsets(&topic, &numbers, Place::Latest).await?;
            for number in numbers {
                let known = |of: &BTreeMap<i32, Result<Option<i64>, _>>| match of[&number] {
                    Ok(offset) => Ok(offset),
                    Err(code) => Err(code),
                };
                let (first, end, found) = match (known(&first), known(&end), known(&found)) {
                    (Ok(first), Ok(end), Ok(found)) => {
                        (first.unwrap_or_default(), end.unwrap_or_default(), found)
                    }
                    (Err(code), ..) | (_, Err(code), _) | (.., Err(code)) => {
                        return Err(session.why(&name, number, 0, code).await);
                    }
                };
                let was = before.get(&(name.clone(), number)).copied();
                let to = match self.to {
                    Target::Place(_) => found.unwrap_or(end),
                    Target::Offset(offset) => offset,
                    Target::By(by) => was.unwrap_or(first).saturating_add(by),
                };
                after.insert((name.clone(), number), to.clamp(first, end));
            }
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_in_words() {
        assert_eq!(in_words("Stable"), "stable");
        assert_eq!(in_words("PreparingRebalance"), "preparing rebalance");
    }

    #[test]
    fn a_target_is_a_word_an_offset_a_step_or_a_time() {
        let target = |text| Target::parse(text).unwrap();
        assert_eq!(target("beginning"), Target::Place(Place::Earliest));
        assert_eq!(target("42"), Target::Offset(42));
        assert_eq!(target("+5"), Target::By(5));
        assert_eq!(target("-5"), Target::By(-5));
        assert_eq!(target("@7"), Target::Place(Place::Time(7)));
        assert!(Target::parse("lunch").is_err() && Target::parse("-x").is_err());
    }
}
