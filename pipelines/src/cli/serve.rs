//! `flumen serve`: a broker that Kafka's clients connect to.

mod file;

use std::{io, path::PathBuf};

use clap::Args;
use flumen_actors::broker::catalogue::settings::SETTINGS;
use tokio::time::Instant;

use self::file::File;
use super::{
    CliError, DataArgs, DiskArg,
    print::{Table, counted},
    session::DEFAULT_ADDRESS,
    tell,
};
use crate::{
    metrics::Page,
    node::{self, Listen, NodeError, NodeOptions, settings::NODE_SETTINGS},
    open_files,
    signals::Signals,
};

/// Options of `flumen serve`. Each but `--config` can stand in the configuration file under the same
/// name; what the command line says wins.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML), with these options' names, and a table `[set]` for settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; may be given more than once. Without it: 127.0.0.1:9092.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// Address that clients are told to connect to, one for each `--listen`, where it is another.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
    /// Directory of the node's data; may be given more than once, for several disks: partitions are
    /// spread over them.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Disk driver: io_uring where it is allowed, or threads.
    #[arg(long, value_enum)]
    disk: Option<DiskArg>,
    /// The node's number; it is written into its data directories, and stays: what they say where none is
    /// given, and 1 for new ones.
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// Threads that do the work, one a core as a rule.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    arbiters: Option<u32>,
    /// A setting under Kafka's name, of the node or of all topics that do not set it themselves; may be
    /// given more than once.
    #[arg(long = "set", short, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Address of a page with metrics for Prometheus: http://HOST:PORT/metrics.
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// List all settings with their values and meanings, and end.
    #[arg(long)]
    settings: bool,
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ServeArgs) -> Result<(), CliError> {
    let is_listing = args.settings;
    let (mut options, metrics) = options(args)?;
    if is_listing {
        return list(&options);
    }
    options.takes_over_kafka = true;
    if let Some(complaint) = open_files::allow_as_many_as_may_be() {
        tell(complaint);
    }
    options.limits.connections_cap = open_files::connections_cap();
    // A port in use is known before anything else is begun.
    let metrics =
        metrics.map(|address| Page::bind(&address)).transpose().map_err(NodeError::from)?;
    let (connections, topics, began) = node::run(options, |node| async move {
        let gateway = node.gateway();
        let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        let page = match metrics {
            Some(page) => format!("; metrics at {}", page.start(&node)?),
            None => String::new(),
        };
        tell(format_args!("listening on {}{page}; {}", addresses.join(", "), node.about()));
        for bound in gateway.listeners() {
            let (host, port) = (&bound.endpoint.host, bound.endpoint.port);
            if bound.address().ip().is_unspecified() && &**host == "localhost" {
                tell(format_args!(
                    "clients are told to connect to {host}:{port}: for those on other machines, give \
                     `--advertise HOST:PORT`"
                ));
            }
        }
        Signals::listen()?.told_to_stop().await;
        let (connections, topics) = (gateway.connections(), node.broker().topics().len());
        tell(format_args!("stopping: {connections} connections are answered what they asked for"));
        Ok::<_, CliError>((connections, topics, Instant::now()))
    })?;
    let took = began.elapsed().as_secs_f64();
    tell(format_args!(
        "stopped after {took:.1} s: {} let go, {} closed",
        counted(connections as u64, "connection"),
        counted(topics as u64, "topic")
    ));
    Ok(())
}

/// Those of the command line, and where it says nothing those of the file.
fn options(args: ServeArgs) -> Result<(NodeOptions, Option<String>), CliError> {
    let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    fn either<T>(given: Vec<T>, file: Vec<T>) -> Vec<T> {
        if given.is_empty() { file } else { given }
    }
    let data = either(args.data, file.data);
    if data.is_empty() && !args.settings {
        return Err(CliError::NoDataGiven);
    }
    let disk = args.disk.or(file.disk).unwrap_or(DiskArg::Auto);
    let mut options = DataArgs { data, disk }.node();
    let mut listen = either(args.listen, file.listen);
    let advertise = either(args.advertise, file.advertise);
    if listen.is_empty() {
        listen.push(DEFAULT_ADDRESS.into());
    }
    if advertise.len() > listen.len() {
        return Err(CliError::Option {
            option: "--advertise",
            value: advertise.join(" "),
            expected: "at most one for each `--listen`, in their order".into(),
        });
    }
    let mut advertise = advertise.iter().map(|text| host_and_port(text));
    for address in listen {
        let advertise = advertise.next().transpose()?;
        options.listen.push(Listen { address, advertise });
    }
    options.node = args.node.or(file.node);
    options.threads.arbiters = args.arbiters.or(file.arbiters).unwrap_or(options.threads.arbiters);
    if options.threads.arbiters == 0 {
        let (option, expected) = ("arbiters", "at least one thread is wanted".into());
        return Err(CliError::Option { option, value: "0".into(), expected });
    }
    // Kafka's: members that start together are in the first generation together.
    options.groups.initial_rebalance_delay_ms = 3_000;
    for (name, value) in &file.set.0 {
        options.set(name, value)?;
    }
    for text in &args.set {
        let (name, value) = text.split_once('=').ok_or_else(|| CliError::Option {
            option: "--set",
            value: text.clone(),
            expected: "NAME=VALUE, such as `num.partitions=3`".into(),
        })?;
        options.set(name.trim(), value)?;
    }
    options.check()?;
    Ok((options, args.metrics.or(file.metrics)))
}

/// Every setting as it would be, with what it means.
fn list(options: &NodeOptions) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let mut table = Table::new(&["SETTING", "OF", "VALUE", "MEANING"]);
    for own in NODE_SETTINGS {
        let (name, doc) = (own.name.to_owned(), own.doc.to_owned());
        table.row([name, "node".into(), own.value(options), doc]);
    }
    for setting in SETTINGS {
        let value = options.topic_settings.get(setting.name).unwrap_or(setting.default);
        let (name, doc) = (setting.name.to_owned(), setting.doc.to_owned());
        table.row([name, "topics".into(), value.to_owned(), doc]);
    }
    Ok(table.print(&mut out)?)
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
