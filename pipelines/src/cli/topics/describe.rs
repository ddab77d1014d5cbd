//! `flumen topics describe`: what is set on a topic, and how each of its partitions is.

use std::io::{self, Write};

use flumen_actors::{broker::catalogue::settings::FLUSH_NEVER, gateway::error_code::ErrorCode};
use flumen_runtime::data_dir::kafka_id;
use serde_json::{Value, json};

use super::super::{
    CliError,
    print::{self, Table, known},
    session::Session,
};
use crate::client::{ConfigEntry, Place, Topic};

/// How a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Online,
    /// Its log is closed, and answers nothing.
    Offline,
    /// What it says of itself is of no use: its first record cannot be read.
    Unreadable,
    NoLeader,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Online => "online",
            State::Offline => "offline",
            State::Unreadable => "unreadable",
            State::NoLeader => "no leader",
        }
    }
}

/// What there is to be said of a partition.
struct Described {
    number: i32,
    leader: Option<i32>,
    state: State,
    first: Option<i64>,
    end: Option<i64>,
    bytes: Option<i64>,
    trouble: Option<String>,
}

async fn partitions(session: &mut Session, topic: &Topic) -> Result<Vec<Described>, CliError> {
    let numbers: Vec<i32> = topic.partitions.keys().copied().collect();
    let first = session.client.offsets(topic, &numbers, Place::Earliest).await?;
    let end = session.client.offsets(topic, &numbers, Place::Latest).await?;
    let bytes = session.client.sizes(topic).await?;
    let mut all = Vec::new();
    for number in numbers {
        let offset = |of: &Result<Option<i64>, _>| of.ok().flatten();
        let leader = topic.partitions[&number].leader;
        let range = (first[&number], end[&number]);
        let (state, code) = state(session, topic, number, range).await?;
        let at = offset(&first[&number]).unwrap_or_default();
        let trouble = match state {
            State::Online => None,
            _ => Some(session.why(&topic.name, number, at, code).await.to_string()),
        };
        all.push(Described {
            number,
            leader,
            state,
            first: offset(&first[&number]),
            end: offset(&end[&number]),
            bytes: bytes.get(&number).copied(),
            trouble,
        });
    }
    Ok(all)
}

/// How a partition is that tells this of where it begins and ends, and the error that shows it. What a
/// log was when it was closed is told without a look at its files, so these are looked at here.
async fn state(
    session: &mut Session,
    topic: &Topic,
    number: i32,
    range: (Result<Option<i64>, ErrorCode>, Result<Option<i64>, ErrorCode>),
) -> Result<(State, ErrorCode), CliError> {
    let first = match range {
        (Err(code), _) | (_, Err(code)) => {
            let is_told = topic.leader(number).is_ok();
            return Ok((if is_told { State::Offline } else { State::NoLeader }, code));
        }
        (Ok(Some(first)), Ok(Some(end))) if first < end => first,
        (Ok(_), Ok(_)) => return Ok((State::Online, ErrorCode::None)),
    };
    Ok(match session.client.try_read(topic, number, first).await? {
        // Deleted since it was asked for.
        code @ (ErrorCode::None | ErrorCode::OffsetOutOfRange) => (State::Online, code),
        code => (State::Unreadable, code),
    })
}

pub(super) async fn run(
    session: &mut Session,
    names: &[String],
    all_settings: bool,
    json: bool,
) -> Result<(), CliError> {
    let mut told = Vec::new();
    for name in names {
        let topic = session.topic(name).await?;
        let mut configs = session.client.topic_configs(name).await?;
        let is_lazy = configs.iter().any(is_lazy);
        configs.retain(|entry| all_settings || entry.is_set);
        let parts = partitions(session, &topic).await?;
        if json {
            told.push(as_json(&topic, &configs, &parts));
        } else {
            print_topic(&mut io::stdout().lock(), &topic, &configs, all_settings, is_lazy, &parts)?;
        }
    }
    if json {
        print::json(&told)?;
    }
    Ok(())
}

fn is_lazy(entry: &ConfigEntry) -> bool {
    entry.name == "flush.messages" && entry.value.parse() == Ok(FLUSH_NEVER)
}

fn as_json(topic: &Topic, configs: &[ConfigEntry], parts: &[Described]) -> Value {
    let settings = configs.iter().map(|entry| (entry.name.clone(), json!(entry.value)));
    let parts = parts.iter().map(|part| {
        json!({
            "partition": part.number,
            "leader": part.leader,
            "state": part.state.name(),
            "first_offset": part.first,
            "end_offset": part.end,
            "bytes": part.bytes,
            "error": part.trouble,
        })
    });
    json!({
        "topic": topic.name,
        "id": kafka_id(topic.id),
        "internal": topic.is_internal,
        "settings": settings.collect::<serde_json::Map<_, _>>(),
        "partitions": parts.collect::<Vec<_>>(),
    })
}

fn print_topic(
    out: &mut impl Write,
    topic: &Topic,
    configs: &[ConfigEntry],
    all_settings: bool,
    is_lazy: bool,
    parts: &[Described],
) -> Result<(), CliError> {
    writeln!(out, "{}  id {}", topic.name, kafka_id(topic.id))?;
    let promise = if is_lazy {
        "an acknowledged record may be lost in a power cut (flush.messages)"
    } else {
        "an acknowledged record is on the disk"
    };
    writeln!(out, "  {promise}")?;
    if all_settings {
        let mut table = Table::new(&["SETTING", "VALUE", "", "MEANING"]).indented();
        for entry in configs {
            let set = if entry.is_set { "set" } else { "" };
            let doc = entry.doc.clone().unwrap_or_default();
            table.row([entry.name.clone(), entry.value.clone(), set.to_owned(), doc]);
        }
        table.print(out)?;
    } else {
        for entry in configs {
            writeln!(out, "  {}={}", entry.name, entry.value)?;
        }
    }
    let heading = ["PARTITION", "LEADER", "FIRST OFFSET", "END OFFSET", "BYTES", "STATE"];
    let mut table = Table::new(&heading).indented();
    for part in parts {
        table.row([
            part.number.to_string(),
            known(part.leader),
            known(part.first),
            known(part.end),
            known(part.bytes),
            part.state.name().to_owned(),
        ]);
    }
    table.print(out)?;
    for trouble in parts.iter().filter_map(|part| part.trouble.as_ref()) {
        writeln!(out, "  {trouble}")?;
    }
    Ok(())
}
