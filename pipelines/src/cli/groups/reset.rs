//! `flumen groups reset`: lets a group without members go on elsewhere.

use std::{collections::BTreeMap, io};

use serde_json::json;

use super::super::{
    CliError, place,
    print::{self, Table, known},
    session::Session,
    tell, time,
};
use crate::client::{Committed, Place};

/// Where a group is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Place(Place),
    Offset(i64),
    /// So many records from where it is.
    By(i64),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
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
pub(super) struct Reset {
    pub(super) group: String,
    pub(super) topics: Vec<String>,
    pub(super) partition: Option<i32>,
    pub(super) to: Target,
    pub(super) dry_run: bool,
}

/// Where it goes on in one partition, which has the offsets from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: Option<i64>,
    asked: i64,
    first: i64,
    end: i64,
}

impl Move {
    /// The nearest that there is to what was asked for.
    fn to(self) -> i64 {
        self.asked.clamp(self.first, self.end)
    }

    /// What to say where that is not it.
    fn cut(self, topic: &str, partition: i32) -> Option<String> {
        let Self { asked, first, end, .. } = self;
        let why = match asked {
            _ if asked > end => format!("ends at offset {end}"),
            _ if asked < first => format!("begins at offset {first}"),
            _ => return None,
        };
        Some(format!("`{topic}-{partition}` {why}: the group goes on there, and not at {asked}"))
    }
}

type Plan = BTreeMap<(String, i32), Move>;

impl Reset {
    pub(super) async fn run(&self, session: &mut Session, json: bool) -> Result<(), CliError> {
        let before = session.client.committed(&self.group).await?;
        let plan = self.plan(session, &before).await?;
        if plan.is_empty() {
            return Err(self.nothing_to_move());
        }
        if !self.dry_run {
            let after = plan.iter().map(|(part, it)| (part.clone(), it.to())).collect();
            session.client.commit(&self.group, &after).await?;
        }
        let cut = plan.iter().filter_map(|((topic, number), it)| it.cut(topic, *number));
        cut.for_each(|cut| tell(format_args!("flumen: {cut}")));
        if json {
            let moved = plan.iter().map(|((topic, partition), it)| {
                json!({
                    "topic": topic,
                    "partition": partition,
                    "from": it.from,
                    "asked": it.asked,
                    "to": it.to(),
                })
            });
            let action = if self.dry_run { "nothing" } else { "reset" };
            let moved = moved.collect::<Vec<_>>();
            let done = json!({ "action": action, "group": self.group, "partitions": moved });
            return Ok(print::json(&done)?);
        }
        let mut table = Table::new(&["TOPIC", "PARTITION", "WAS AT", "GOES ON AT"]);
        for ((topic, partition), it) in &plan {
            table.row([topic.clone(), partition.to_string(), known(it.from), it.to().to_string()]);
        }
        table.print(&mut io::stdout().lock())?;
        if self.dry_run {
            tell("flumen: nothing was changed (--dry-run)");
        }
        Ok(())
    }

    fn nothing_to_move(&self) -> CliError {
        match (self.partition, self.topics.is_empty()) {
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
        }
    }

    async fn plan(&self, session: &mut Session, before: &Committed) -> Result<Plan, CliError> {
        let mut topics = self.topics.clone();
        if topics.is_empty() {
            topics = before.keys().map(|(topic, _)| topic.clone()).collect();
            topics.dedup();
        }
        let mut plan = Plan::new();
        for name in topics {
            let topic = session.topic(&name).await?;
            let all = topic.partitions.keys().copied();
            let numbers: Vec<i32> =
                all.filter(|number| self.partition.is_none_or(|only| only == *number)).collect();
            let ranges = place::ranges(session, &topic, &numbers).await?;
            let at_time = match self.to {
                Target::Place(place @ Place::Time(_)) => {
                    session.client.offsets(&topic, &numbers, place).await?
                }
                _ => BTreeMap::new(),
            };
            for (number, (first, end)) in ranges {
                let from = before.get(&(name.clone(), number)).copied();
                let asked = match self.to {
                    Target::Place(Place::Earliest) => first,
                    Target::Place(Place::Latest) => end,
                    Target::Place(Place::Time(_)) => {
                        match at_time.get(&number).copied().unwrap_or(Ok(None)) {
                            Ok(found) => found.unwrap_or(end),
                            Err(code) => return Err(session.why(&name, number, first, code).await),
                        }
                    }
                    Target::Offset(offset) => offset,
                    Target::By(by) => from.unwrap_or(first).saturating_add(by),
                };
                plan.insert((name.clone(), number), Move { from, asked, first, end });
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_a_partition_does_not_have_is_cut_to_what_it_has_and_said() {
        let to = |asked| Move { from: None, asked, first: 3, end: 20 };
        for (asked, set) in [(3, 3), (7, 7), (20, 20)] {
            assert_eq!((to(asked).to(), to(asked).cut("t", 0)), (set, None));
        }
        assert_eq!(to(99).to(), 20);
        let told = "`t-0` ends at offset 20: the group goes on there, and not at 99";
        assert_eq!(to(99).cut("t", 0).as_deref(), Some(told));
        assert_eq!(to(-1).to(), 3);
        let told = "`t-0` begins at offset 3: the group goes on there, and not at -1";
        assert_eq!(to(-1).cut("t", 0).as_deref(), Some(told));
    }
}
