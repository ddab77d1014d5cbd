//! `flumen topics`: what topics there are, how each partition is, and changes of them.

mod trim;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use flumen_actors::broker::{catalogue::settings::FLUSH_NEVER, names::TopicName};
use flumen_runtime::data_dir::kafka_id;
use serde_json::{Value, json};

use super::{
    CliError,
    print::{self, Table, counted, known},
    session::{self, NodeArgs, Session},
    tell,
};
use crate::client::{ConfigChange, ConfigEntry, Place, Topic};

/// Options of `flumen topics`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct TopicsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Describe this topic (the same as `describe TOPIC`); without it, list all.
    topic: Option<String>,
    /// Also the node's own topics (`__…`).
    #[arg(long, global = true)]
    internal: bool,
    /// Print one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Lists all topics.
    List,
    /// Describes topics: settings, offsets and bytes of each partition.
    Describe {
        /// Which.
        #[arg(required = true)]
        topics: Vec<String>,
        /// Every setting with its meaning, not only those that were set.
        #[arg(long)]
        settings: bool,
    },
    /// Makes a topic.
    Create {
        /// Its name.
        topic: String,
        /// How many partitions it gets; the node's `num.partitions` where this is not given.
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Copies of each partition; the node's default where this is not given.
        #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A setting, under Kafka's name; may be given more than once.
        #[arg(long = "set", short, value_name = "NAME=VALUE", value_parser = setting)]
        set: Vec<(String, String)>,
        /// That the topic is there already is no error.
        #[arg(long)]
        if_missing: bool,
    },
    /// Changes settings of a topic, at once and while it is used.
    Alter {
        /// Which.
        topic: String,
        /// A setting, under Kafka's name; may be given more than once.
        #[arg(long = "set", short, value_name = "NAME=VALUE", value_parser = setting)]
        set: Vec<(String, String)>,
        /// A setting that goes back to its default; may be given more than once.
        #[arg(long, short, value_name = "NAME", required_unless_present = "set")]
        reset: Vec<String>,
    },
    /// Gives a topic more partitions.
    Grow {
        /// Which.
        topic: String,
        /// How many partitions it is to have, those that it has included.
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
    },
    /// Deletes the oldest records of a topic, for good.
    Trim {
        /// Which.
        topic: String,
        /// What is kept: all from here on. `end` keeps nothing; or an offset, `-N` for the last N of
        /// each partition, or a time as for `flumen consume`.
        #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
        to: String,
        /// Only this partition; may be given more than once.
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
        partition: Vec<i32>,
    },
    /// Deletes topics with all their records.
    Delete {
        /// Which.
        #[arg(required = true)]
        topics: Vec<String>,
    },
}

fn setting(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("give NAME=VALUE, such as `retention.ms=3600000`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: TopicsArgs) -> Result<(), CliError> {
    let TopicsArgs { action, topic, internal, json, node } = args;
    let action = match (action, topic) {
        (Some(action), _) => action,
        (None, Some(topic)) => Action::Describe { topics: vec![topic], settings: false },
        (None, None) => Action::List,
    };
    let node = if matches!(action, Action::Create { .. }) { node.or_new() } else { node };
    session::run(&node, |session| act(session, action, internal, json))
}

async fn act(
    mut session: Session,
    action: Action,
    internal: bool,
    json: bool,
) -> Result<(), CliError> {
    let client = &mut session.client;
    let done = match action {
        Action::List => return list(&mut session, internal, json).await,
        Action::Describe { topics, settings } => {
            return describe(&mut session, &topics, settings, json).await;
        }
        Action::Create { topic, partitions, replicas, set, if_missing } => {
            TopicName::new(&topic)?;
            if if_missing && client.topic(&topic, false).await?.is_some() {
                Done::new(&topic, "nothing", format!("there is a topic `{topic}` already"))
            } else {
                let made = client.create_topic(&topic, partitions, replicas, &set).await?;
                let count = counted(made.unsigned_abs().into(), "partition");
                Done::new(&topic, "created", format!("made topic `{topic}` with {count}"))
            }
        }
        Action::Alter { topic, set, reset } => {
            session.topic(&topic).await?;
            check_known(&mut session, &topic, &reset).await?;
            let set = set.into_iter().map(|(name, value)| (name, Some(value)));
            let reset = reset.into_iter().map(|name| (name, None));
            let changes: Vec<ConfigChange> = set.chain(reset).collect();
            session.client.alter_topic(&topic, &changes).await?;
            let told = changes.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => format!("{name} is its default again"),
            });
            let told = told.collect::<Vec<_>>().join(", ");
            Done::new(&topic, "altered", format!("changed `{topic}`: {told}"))
        }
        Action::Grow { topic, partitions } => {
            let before = session.topic(&topic).await?.partitions.len();
            session.client.grow_topic(&topic, partitions).await?;
            let told = format!("`{topic}` has {partitions} partitions now, and had {before}");
            Done::new(&topic, "grown", told)
        }
        Action::Trim { topic, to, partition } => {
            return trim::run(&mut session, &topic, &to, &partition, json).await;
        }
        Action::Delete { topics } => {
            for topic in &topics {
                session.topic(topic).await?;
            }
            session.client.delete_topics(&topics).await?;
            let names = topics.join("`, `");
            Done { topics, action: "deleted", told: format!("deleted `{names}`") }
        }
    };
    if json {
        let topics = done.topics;
        print::json(&json!({ "action": done.action, "topics": topics }))?;
    } else {
        tell(format_args!("flumen: {}", done.told));
    }
    Ok(())
}

/// What was done.
struct Done {
    topics: Vec<String>,
    action: &'static str,
    told: String,
}

impl Done {
    fn new(topic: &str, action: &'static str, told: String) -> Self {
        Self { topics: vec![topic.to_owned()], action, told }
    }
}

async fn list(session: &mut Session, internal: bool, json: bool) -> Result<(), CliError> {
    let mut topics = session.client.topics().await?;
    topics.retain(|topic| internal || !topic.is_internal);
    if json {
        let topics = topics.iter().map(|topic| {
            json!({
                "topic": topic.name,
                "id": kafka_id(topic.id),
                "partitions": topic.partitions.len(),
                "internal": topic.is_internal,
            })
        });
        return Ok(print::json(&topics.collect::<Vec<Value>>())?);
    }
    if topics.is_empty() {
        tell("flumen: there are no topics yet; `flumen topics create NAME` makes one");
        return Ok(());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS"]);
    for topic in topics {
        table.row([topic.name, topic.partitions.len().to_string()]);
    }
    Ok(table.print(&mut io::stdout().lock())?)
}

/// What there is to be said of a partition.
struct Described {
    number: i32,
    leader: Option<i32>,
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
        let trouble = match end[&number] {
            Ok(_) => None,
            Err(code) => Some(session.why(&topic.name, number, 0, code).await.to_string()),
        };
        let offset = |of: &Result<Option<i64>, _>| of.ok().flatten();
        all.push(Described {
            number,
            leader: topic.partitions[&number].leader,
            first: offset(&first[&number]),
            end: offset(&end[&number]),
            bytes: bytes.get(&number).copied(),
            trouble,
        });
    }
    Ok(all)
}

/// Refuses to reset what is no setting: a node takes that for done.
async fn check_known(session: &mut Session, topic: &str, names: &[String]) -> Result<(), CliError> {
    if names.is_empty() {
        return Ok(());
    }
    let known = session.client.topic_configs(topic).await?;
    match names.iter().find(|name| known.iter().all(|it| it.name != **name)) {
        None => Ok(()),
        Some(unknown) => Err(CliError::Option {
            option: "--reset",
            value: unknown.clone(),
            expected: format!("`flumen topics describe {topic} --settings` lists all there are"),
        }),
    }
}

async fn describe(
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
    let heading = ["PARTITION", "LEADER", "FIRST OFFSET", "END OFFSET", "BYTES"];
    let mut table = Table::new(&heading).indented();
    for part in parts {
        let Described { number, leader, first, end, bytes, .. } = part;
        let cells = [number.to_string(), known(*leader), known(*first), known(*end), known(*bytes)];
        table.row(cells);
    }
    table.print(out)?;
    for trouble in parts.iter().filter_map(|part| part.trouble.as_ref()) {
        writeln!(out, "  {trouble}")?;
    }
    Ok(())
}
