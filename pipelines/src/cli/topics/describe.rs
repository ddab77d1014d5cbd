//! `flumen topics describe`: what is set on a topic, and how each of its partitions is.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use flumen_actors::{broker::catalogue::settings::FLUSH_NEVER, gateway::error_code::ErrorCode};
use flumen_runtime::data_dir::kafka_id;
use serde_json::{Value, json};

use super::super::{
    CliError,
    print::{self, Table, known},
    session::Session,
};
use crate::client::{ClientError, ConfigEntry, Place, Topic, is_passing};

/// How a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its leader answers, and finds its first record.
    Online,
    /// Its leader does not serve it now, which passes by itself.
    NotReady,
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
            State::NotReady => "not ready",
            State::Offline => "offline",
            State::Unreadable => "unreadable",
            State::NoLeader => "no leader",
        }
    }
}

/// A place in a partition, or why it is not told.
type Told = Result<Option<i64>, ErrorCode>;

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
    let firsts = session.client.offsets(topic, &numbers, Place::Earliest).await?;
    let ends = session.client.offsets(topic, &numbers, Place::Latest).await?;
    let bytes = session.client.sizes(topic).await?;
    let told = |of: &BTreeMap<i32, Told>, number: &i32| {
        of.get(number).copied().unwrap_or(Err(ErrorCode::UnknownTopicOrPartition))
    };
    // What a log was when it was closed is told without a look at its files, so these are looked at here.
    let begin = |number: &i32| match (told(&firsts, number), told(&ends, number)) {
        (Ok(Some(first)), Ok(Some(end))) if first < end => Some((*number, first)),
        _ => None,
    };
    let tried = session.client.try_read(topic, &numbers.iter().filter_map(begin).collect()).await?;
    let mut all = Vec::new();
    for number in numbers {
        let (first, end) = (told(&firsts, &number), told(&ends, &number));
        let leader = topic.partitions[&number].leader;
        let read = tried.get(&number).copied().unwrap_or(ErrorCode::None);
        let (state, code) = state(topic.leader(number).is_ok(), first.and(end), read);
        let (first, end) = (first.ok().flatten(), end.ok().flatten());
        let mut trouble = None;
        if state != State::Online {
            let what = format!("`{}-{number}`", topic.name);
            let refused = || ClientError::Refused { what, code, message: None }.to_string();
            let wrong = match state {
                State::NotReady | State::NoLeader => None,
                _ => session.wrong(&topic.name, number, first.unwrap_or_default()).await,
            };
            trouble = Some(wrong.unwrap_or_else(refused));
        }
        let bytes = bytes.get(&number).copied();
        all.push(Described { number, leader, state, first, end, bytes, trouble });
    }
    Ok(all)
}

/// How a partition is that tells this of where it is, and whose first record was read like this; and the
/// error that shows it. Whether there is anybody who can be asked is `is_had`: a leader, or who has it offline.
fn state(is_had: bool, place: Told, read: ErrorCode) -> (State, ErrorCode) {
    match (place, read) {
        (Err(code), _) if !is_had || code == ErrorCode::LeaderNotAvailable => {
            (State::NoLeader, code)
        }
        (Err(code), _) | (Ok(_), code) if is_passing(code) => (State::NotReady, code),
        (Err(code), _) => (State::Offline, code),
        // Deleted since it was asked for.
        (Ok(_), code @ (ErrorCode::None | ErrorCode::OffsetOutOfRange)) => (State::Online, code),
        (Ok(_), code) => (State::Unreadable, code),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_no_damage_and_what_nobody_leads_has_no_leader() {
        use ErrorCode::{
            KafkaStorageError, LeaderNotAvailable, None as Fine, NotLeaderOrFollower,
            OffsetOutOfRange,
        };
        let of = |is_had, place, read| {
            let (state, code) = state(is_had, place, read);
            (state.name(), code)
        };
        let end = Ok(Some(7));
        for (place, read, wanted) in [
            (end, Fine, ("online", Fine)),
            (end, OffsetOutOfRange, ("online", OffsetOutOfRange)),
            (end, KafkaStorageError, ("unreadable", KafkaStorageError)),
            (end, NotLeaderOrFollower, ("not ready", NotLeaderOrFollower)),
            (Err(NotLeaderOrFollower), Fine, ("not ready", NotLeaderOrFollower)),
            (Err(KafkaStorageError), Fine, ("offline", KafkaStorageError)),
        ] {
            assert_eq!(of(true, place, read), wanted);
        }
        let nobody = ("no leader", LeaderNotAvailable);
        assert_eq!(of(false, Err(LeaderNotAvailable), Fine), nobody);
        assert_eq!(of(true, Err(LeaderNotAvailable), Fine), nobody, "who has it offline is gone");
    }
}
