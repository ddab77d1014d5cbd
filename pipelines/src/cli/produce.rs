//! `flumen produce`: a record for each line of standard input.

mod lines;
mod object;

use std::{io, os::fd::AsFd as _, time::Duration};

use clap::Args;
use flumen_actors::{agent::sink::topic::partition_of_key, broker::names::TopicName};
use flumen_runtime::{
    batch::{Compression, RecordRef},
    clock::{Clock as _, SystemClock},
};
use futures::future::{Either, select};
use serde_json::json;
use tokio::{sync::mpsc::Receiver, time::Instant};

use self::lines::{Line, Lines, Syntax};
use super::{
    CliError,
    print::{self, counted},
    progress::Progress,
    session::{self, NodeArgs, Session},
    tell,
};
use crate::{
    client::{Acks, Producer, Topic},
    signals::Signals,
};

/// A batch of so many bytes is sent at once.
const BATCH_BYTES: usize = 256 << 10;
/// How long an answer is waited for once the command is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Options of `flumen produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The topic; made where there is none and the node's `auto.create.topics.enable` allows it.
    topic: String,
    /// To this partition. Otherwise records go where their key belongs, and those without one in turn.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// What stands before this is the key. A line without it has no key.
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of each record; may be given more than once.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// What a line is: a value, or an object with `key`, `value`, `headers`, `partition` and
    /// `timestamp`, as `flumen consume --format json` prints it.
    #[arg(long, value_enum, default_value = "value")]
    format: Syntax,
    /// Whose word is awaited: of all in sync, of the leader, of nobody.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// How batches are compressed.
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: CompressionArg,
    /// Print what was done as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// The names of acks on the command line: Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AcksArg {
    /// All in sync.
    #[value(alias = "-1")]
    All,
    /// The leader. Where the connection breaks, what is sent again may be there twice.
    #[value(name = "1", alias = "leader")]
    Leader,
    /// Nobody.
    #[value(name = "0", alias = "none")]
    None,
}

/// The names of codecs on the command line: Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<CompressionArg> for Compression {
    fn from(named: CompressionArg) -> Self {
        match named {
            CompressionArg::None => Compression::None,
            CompressionArg::Gzip => Compression::Gzip,
            CompressionArg::Snappy => Compression::Snappy,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Zstd => Compression::Zstd,
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ProduceArgs) -> Result<(), CliError> {
    TopicName::new(&args.topic)?;
    session::run(&args.node.clone().or_new(), |session| produce(session, args))
}

async fn produce(mut session: Session, args: ProduceArgs) -> Result<(), CliError> {
    let topic = match session.client.topic(&args.topic, true).await? {
        Some(topic) => topic,
        None => session.topic(&args.topic).await?,
    };
    if let Some(partition) = args.partition
        && !topic.partitions.contains_key(&partition)
    {
        return Err(CliError::Option {
            option: "--partition",
            value: partition.to_string(),
            expected: format!(
                "`{}` has partitions 0 to {}",
                topic.name,
                topic.partitions.len() - 1
            ),
        });
    }
    let acks = match args.acks {
        AcksArg::All => Acks::All,
        AcksArg::Leader => Acks::Leader,
        AcksArg::None => Acks::None,
    };
    let producer = Producer::new(&mut session.client, topic, acks).await?;
    let producer = producer.compressed(args.compression.into());
    let lines = Lines::new(args.format, args.key_separator.clone());
    let began = Instant::now();
    // Where each that is started sends little, not all of it goes to the same partition.
    let turn = std::process::id() as usize;
    let mut work = Work {
        session,
        producer,
        args,
        turn,
        records: 0,
        bytes: 0,
        progress: Progress::new(length()),
    };
    let outcome = work.run(lines).await;
    work.progress.end();
    // What was taken before it went wrong is told too.
    work.report(began.elapsed(), outcome.as_ref().copied().unwrap_or(true))?;
    if outcome? { Err(CliError::Interrupted) } else { Ok(()) }
}

/// How many bytes standard input has, where it is a file.
fn length() -> Option<u64> {
    let stat = rustix::fs::fstat(io::stdin().as_fd()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    u64::try_from(stat.st_size).ok().filter(|_| is_file)
}

struct Work {
    session: Session,
    producer: Producer,
    args: ProduceArgs,
    /// Whose turn it is among the partitions, of records without a key.
    turn: usize,
    /// Records and bytes read.
    records: u64,
    bytes: u64,
    progress: Progress,
}

impl Work {
    /// Sends all there is; whether it was told to stop before.
    async fn run(&mut self, lines: Lines) -> Result<bool, CliError> {
        let mut signals = Signals::listen()?;
        let mut chunks = lines::read(lines);
        loop {
            // The signal first: input may never rest.
            let stop = Box::pin(signals.told_to_stop());
            let came = match select(stop, Box::pin(chunks.recv())).await {
                Either::Left(_) => None,
                Either::Right((chunk, _)) => Some(chunk),
            };
            let Some(chunk) = came else {
                return finish(Box::pin(self.flush()), &mut signals).await;
            };
            let Some(chunk) = chunk else { return Ok(false) };
            // All that was read before a line that is none, or that is not taken, is sent.
            let (lines, trouble) = chunk;
            let mut is_full = false;
            let pushed = lines.iter().try_for_each(|line| {
                is_full |= self.push(line)? >= BATCH_BYTES;
                Ok(())
            });
            let trouble = pushed.err().or(trouble);
            let is_due = is_full || trouble.is_some() || is_drained(&chunks);
            let stopped = if is_due { self.flush_or_stop(&mut signals).await } else { Ok(false) };
            match (stopped, trouble) {
                (Ok(false), None) => {}
                (stopped, None) => return stopped,
                (Ok(_), Some(trouble)) => return Err(trouble),
                (Err(error), Some(trouble)) => {
                    self.progress.end();
                    tell(format_args!("flumen: {error}"));
                    return Err(trouble);
                }
            }
        }
    }

    /// Sends what waits; whether it was told to stop meanwhile.
    async fn flush_or_stop(&mut self, signals: &mut Signals) -> Result<bool, CliError> {
        let stop = Box::pin(signals.told_to_stop());
        let flushing = match select(stop, Box::pin(self.flush())).await {
            Either::Left((_, flushing)) => flushing,
            Either::Right((flushed, _)) => return flushed.map(|()| false),
        };
        finish(flushing, signals).await
    }

    async fn flush(&mut self) -> Result<(), CliError> {
        self.producer.flush(&mut self.session.client).await?;
        self.turn += 1;
        self.progress.at(self.bytes, || counted(self.producer.sent(), "record"));
        Ok(())
    }

    /// Puts a line into the batch of its partition; how many bytes its batches have now.
    fn push(&mut self, line: &Line) -> Result<usize, CliError> {
        let partition = line.partition.or(self.args.partition);
        let partition = partition.unwrap_or_else(|| self.partition(line.key.as_deref()));
        let wrong = |why: &dyn std::fmt::Display| {
            CliError::Unreadable(format!("line {} of standard input: {why}", line.number))
        };
        let Topic { name, partitions, .. } = self.producer.topic();
        if !partitions.contains_key(&partition) {
            return Err(wrong(&format!("`{name}` has no partition {partition}")));
        }
        let common = self.args.header.iter().map(|(name, value)| (&**name, Some(value.as_bytes())));
        let own = line.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
        let headers: Vec<(&str, Option<&[u8]>)> = common.chain(own).collect();
        let record = RecordRef {
            timestamp: line.timestamp.unwrap_or_else(|| SystemClock.now_ms()),
            key: line.key.as_deref(),
            value: line.value.as_deref(),
            headers: &headers,
        };
        let bytes = self.producer.push(partition, record).map_err(|error| wrong(&error))?;
        self.bytes += line.read;
        self.records += 1;
        Ok(bytes)
    }

    /// Where a record belongs: by its key, or to the partition whose turn it is.
    fn partition(&self, key: Option<&[u8]>) -> i32 {
        let Topic { partitions, .. } = self.producer.topic();
        let count = partitions.len().max(1);
        let at = key.map_or(self.turn % count, |key| partition_of_key(key, count));
        partitions.keys().nth(at).copied().unwrap_or_default()
    }

    fn report(&self, took: Duration, is_early: bool) -> Result<(), CliError> {
        let (records, topic) = (self.producer.sent(), &self.producer.topic().name);
        let seconds = took.as_secs_f64();
        if self.args.json {
            let done = json!({
                "topic": topic, "records": records, "bytes_read": self.bytes, "seconds": seconds,
                "all": !is_early,
            });
            return Ok(print::json(&done)?);
        }
        let taken = match self.args.acks {
            AcksArg::None => "were sent to",
            AcksArg::All | AcksArg::Leader => "went into",
        };
        let early = if is_early { "stopped: " } else { "" };
        let records_text = counted(records, "record");
        let rate = records as f64 / seconds.max(0.001);
        let unanswered = match self.records.saturating_sub(records) {
            left if is_early && left > 0 => {
                format!("; {} more, which may be there or not", counted(left, "record"))
            }
            _ => String::new(),
        };
        tell(format_args!(
            "flumen: {early}{records_text} {taken} `{topic}` in {seconds:.1} s ({rate:.0} a second){unanswered}"
        ));
        Ok(())
    }
}

/// Waits for what is on its way, unless the node does not answer or a second signal comes.
async fn finish(
    flushing: impl Future<Output = Result<(), CliError>> + Unpin,
    signals: &mut Signals,
) -> Result<bool, CliError> {
    let flushing = Box::pin(tokio::time::timeout(GRACE, flushing));
    match select(Box::pin(signals.told_to_stop()), flushing).await {
        Either::Right((Ok(flushed), _)) => flushed.map(|()| true),
        Either::Right((Err(_), _)) | Either::Left(_) => Ok(true),
    }
}

/// Whether nothing more has been read by now: then what waits is sent, however little it is.
fn is_drained(chunks: &Receiver<lines::Chunk>) -> bool {
    chunks.is_empty()
}
