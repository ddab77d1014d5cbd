//! `flumen serve`: a broker that Kafka's clients connect to.

use clap::Args;
use flumen_actors::gateway::TopicDefaults;
use tokio::time::Instant;

use super::{CliError, DataArgs, tell};
use crate::{
    node::{self, Listen},
    open_files,
    signals::Signals,
};

/// Options of `flumen serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; may be given more than once.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: Vec<String>,
    /// Address that clients are told to connect to, one for each `--listen`, where it is another.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
    /// Partitions of a topic that is made without saying how many.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    num_partitions: u32,
    /// Whether a topic is made when a client merely names it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    auto_create_topics_enable: bool,
    /// How long an empty group that gets its first member waits for more, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    group_initial_rebalance_delay_ms: u32,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ServeArgs) -> Result<(), CliError> {
    let mut options = args.data.node();
    if args.advertise.len() > args.listen.len() {
        return Err(CliError::Option {
            option: "--advertise",
            value: args.advertise.join(" "),
            expected: "at most one for each `--listen`, in their order".into(),
        });
    }
    if let Some(complaint) = open_files::allow_as_many_as_may_be() {
        tell(complaint);
    }
    options.topic_defaults = TopicDefaults {
        auto_create_topics: args.auto_create_topics_enable,
        partitions: args.num_partitions,
    };
    options.groups.initial_rebalance_delay_ms = args.group_initial_rebalance_delay_ms;
    let mut advertise = args.advertise.iter().map(|text| host_and_port(text));
    for address in &args.listen {
        let advertise = advertise.next().transpose()?;
        options.listen.push(Listen { address: address.clone(), advertise });
    }
    let (connections, topics, began) = node::run(options, |node| async move {
        let gateway = node.gateway();
        let addresses: Vec<String> =
            gateway.listeners().iter().map(|bound| bound.address().to_string()).collect();
        tell(format_args!("listening on {}; {}", addresses.join(", "), node.about()));
        Signals::listen()?.told_to_stop().await;
        let (connections, topics) = (gateway.connections(), node.broker().topics().len());
        tell(format_args!("stopping: {connections} connections are answered what they asked for"));
        Ok::<_, CliError>((connections, topics, Instant::now()))
    })?;
    let took = began.elapsed().as_secs_f64();
    tell(format_args!(
        "stopped after {took:.1} s: {connections} connections are let go, {topics} topics are closed"
    ));
    Ok(())
}

fn host_and_port(text: &str) -> Result<(String, u16), CliError> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) =
        parts.filter(|(host, _)| !host.is_empty()).ok_or_else(|| CliError::Option {
            option: "--advertise",
            value: text.into(),
            expected: "HOST:PORT, such as broker.example:9092".into(),
        })?;
    Ok((host.into(), port))
}
