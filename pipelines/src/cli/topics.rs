//! `flumen topics`: what topics there are, how each partition is, and changes of them.

mod describe;
mod trim;

use std::io;

use clap::{Args, Subcommand};
use flumen_actors::broker::names::TopicName;
use flumen_runtime::data_dir::kafka_id;
use serde_json::{Value, json};

use super::{
    CliError,
    print::{self, Table, counted},
    session::{self, NodeArgs, Session},
    tell,
};
use crate::client::ConfigChange;

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
    /// Describes topics: settings; of each partition its offsets, its bytes, and whether its beginning can
    /// be read.
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
            return describe::run(&mut session, &topics, settings, json).await;
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
