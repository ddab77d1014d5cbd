//! Taking over the log directories of a Kafka node (4.0 or later) that stopped in order.
//!
//! ```text
//!   <dir>/meta.properties          node, cluster and directory id        ─► ours, with flumen.format
//!   <dir>/<topic>-<n>/             partition.metadata: the topic's id    ─► the catalogue
//!       *.log  *.snapshot          read whole; producers, transactions   ─► state at the end, recovery point
//!   <dir>/__consumer_offsets-<n>/  as any other                          ─► groups, when the node starts
//!   <dir>/__cluster_metadata-0/    what was set on the topics            ─► their settings; it stays as it is
//!   <dir>/__transaction_state-<n>/ Kafka's own                           ─► stays as it is, unread
//! ```
//!
//! Everything is read before anything is written: what is refused is left as it was. The directory is
//! Kafka's until its `meta.properties` is replaced, which comes last; whatever is written before that
//! is written again by an import that follows one which was cut short. From then on it is ours alone:
//! Kafka does not start on a directory that holds `.catalogue`.
//!
//! What was set on a topic is set on ours, where it is a setting here and means the same; without the
//! metadata, which may be kept elsewhere (`metadata.log.dir`), topics have the defaults. What held for topics
//! that set nothing stood in the configuration of Kafka's node, which is not here: a topic without a
//! `retention.ms` of its own gets `-1`, so that what Kafka kept is not deleted before somebody sets it.

mod complete;
mod looked;
mod metadata;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use flumen_runtime::{
    batch::BatchError,
    clock::UnixMillis,
    data_dir::{
        self, DataDirError,
        kafka::{self, KafkaDir},
    },
    failpoint,
    ids::{LeaderEpoch, Offset},
    log::adopt::AdoptError,
};
use uuid::Uuid;

use self::{looked::Looked, metadata::Metadata};
use super::{
    OFFSETS_TOPIC,
    catalogue::{
        local,
        settings::Settings,
        state::{Assigned, Catalogue, Change, CreateTopicError, NodeId},
    },
    directories::METADATA_BYTES_MAX,
    names::{PartitionId, ProducerId, TopicName},
};

/// Kafka gives out producer ids in blocks of a thousand; so many more than any log knows of may be in
/// the hands of clients that have not used them.
const PRODUCER_IDS_AHEAD: i64 = 1_000_000;
/// Each start and stop of a Kafka node takes an epoch or two that no log knows of; clients that have
/// seen them would take lower ones for old.
const EPOCHS_AHEAD: i32 = 100;
/// Stands in the first directory while what makes it ours is written.
const BEGUN: &str = "flumen-import";
/// What Kafka keeps for itself, and in a form that is not ours.
const KAFKA_S_OWN: [&str; 4] =
    ["__cluster_metadata", "__transaction_state", "__share_group_state", "__remote_log_metadata"];
/// Marks of directories that Kafka has given up or not finished.
const UNFINISHED: [&str; 3] = ["-delete", "-future", "-stray"];

/// Why Kafka's directories are not taken over; they are left as they were.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It runs, or ended otherwise than by a stop.
    #[error(
        "Kafka did not stop in order in `{}`, or still runs there (there is no `.kafka_cleanshutdown`): start it \
         and stop it with SIGTERM first", .0.display()
    )]
    Unclean(PathBuf),
    /// Only some directories are Kafka's.
    #[error(
        "`{}` is a log directory of Kafka and `{}` is not of the same node: give all its \
         directories and no others", kafka.display(), other.display()
    )]
    Mixed {
        /// One that is.
        kafka: PathBuf,
        /// One that is not.
        other: PathBuf,
    },
    /// One of ours, whose `meta.properties` somebody has changed.
    #[error(
        "`{}` holds a catalogue of Flumen's, and `meta.properties` does not say `flumen.format`: put that file back from \
         a copy", .0.display()
    )]
    Ours(PathBuf),
    /// A partition's directory without a sensible `partition.metadata`.
    #[error(
        "`{}` does not say in `partition.metadata` which topic it belongs to: it is older than Kafka 2.8, or \
         damaged", .0.display()
    )]
    NoId(PathBuf),
    /// Two directories say different things of a topic, or hold the same partition.
    #[error("`{}` and another directory claim the same partition, or other ids for topic `{topic}`", dir.display())]
    Twice {
        /// One of them.
        dir: PathBuf,
        /// Of which topic.
        topic: TopicName,
    },
    /// Other nodes have the rest.
    #[error(
        "partition {partition} of topic `{topic}` is in none of the directories, or is there of a topic that \
         was deleted: only a node that holds all \
         partitions of its topics can be taken over"
    )]
    Missing {
        /// Which topic.
        topic: TopicName,
        /// Which partition.
        partition: u32,
    },
    /// A transaction that nobody has decided.
    #[error(
        "`{}` holds an open transaction of producer {producer}, from offset {first} on: start Kafka, let it be committed or \
         aborted (`kafka-transactions.sh abort`), and stop Kafka again", dir.display()
    )]
    Undecided {
        /// The partition's directory.
        dir: PathBuf,
        /// Whose.
        producer: i64,
        /// Its first record.
        first: Offset,
    },
    /// Groups' offsets that would not be read.
    #[error("`{}` holds records of groups that cannot be read: {reason}", dir.display())]
    Groups {
        /// The partition's directory.
        dir: PathBuf,
        /// Why not.
        reason: BatchError,
    },
    /// The topics' settings cannot be read.
    #[error(
        "`{}` is not understood: {reason}; move the directory `{}` away to take the topics over with default settings",
        path.display(), metadata::FOLDER
    )]
    Metadata {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A log cannot be read, or is not whole.
    #[error("{0}; Kafka's directory was left as it was")]
    Log(#[from] AdoptError),
    /// A topic that cannot be ours.
    #[error(transparent)]
    Topic(#[from] CreateTopicError),
    /// The directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The operating system refuses.
    #[error("cannot {action} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    move |error| ImportError::Io { action, path: path.to_path_buf(), error }
}

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many topics, the groups' own not among them.
    pub topics: usize,
    /// How many partitions.
    pub partitions: usize,
    /// How many records' offsets they span.
    pub offsets: u64,
    /// Directories that stay as they are.
    pub left: Vec<PathBuf>,
    /// How many settings of topics; none where Kafka's metadata is in none of the directories.
    pub settings: Option<usize>,
    /// Settings of topics that are none here: `topic: name=value: why`.
    pub refused: Vec<String>,
}

/// One partition's directory.
struct Found {
    dir: PathBuf,
    /// `directory.id` of the data directory that holds it.
    directory: Uuid,
    id: Uuid,
    start: Option<Offset>,
}

type Topics = BTreeMap<TopicName, BTreeMap<u32, Found>>;

/// Takes over Kafka's log directories at `paths` for `node`, or the node that they say; none where the
/// first is not Kafka's.
///
/// # Errors
/// [`ImportError`].
pub fn take_over(
    paths: &[PathBuf],
    node: Option<NodeId>,
    now_ms: UnixMillis,
) -> Result<Option<Imported>, ImportError> {
    if find(paths)?.is_none() {
        return forget_begun(paths).map(|()| None);
    }
    let held = paths.iter().map(|path| kafka::hold(path));
    let _held = held.collect::<Result<Vec<_>, _>>()?;
    // Another process may have taken it over before we held it, or Kafka been started.
    let Some(dirs) = find(paths)? else { return Ok(None) };
    let own = dirs.first().and_then(|(_, dir)| i32::try_from(dir.node()).ok());
    let node = node.unwrap_or_else(|| NodeId(own.unwrap_or(1)));
    let mut imported = Imported::default();
    let mut topics = Topics::new();
    for (path, dir) in &dirs {
        list(path, dir.id(), &mut topics, &mut imported.left)?;
    }
    let metadata = Metadata::find(dirs.iter().map(|(path, _)| *path))?;
    imported.settings = metadata.as_ref().map(|_| 0);
    complete::check(&topics, metadata.as_ref())?;
    let mut changes = Changes::new(node);
    let mut looked = Vec::new();
    for (name, partitions) in &topics {
        let mut epochs = Vec::new();
        for found in partitions.values() {
            let one = looked::look(&found.dir, found.start, name.as_str(), now_ms)?;
            changes.producer_max = changes.producer_max.max(one.producer_max);
            imported.offsets += one.offsets;
            epochs.push(one.epoch);
            looked.push(one);
        }
        let settings = settings(name, partitions, metadata.as_ref(), &mut imported);
        changes.create(name, partitions, settings, &epochs)?;
    }
    imported.topics = topics.keys().filter(|name| name.as_str() != OFFSETS_TOPIC).count();
    imported.partitions = looked.len();
    write(&dirs, &looked, &changes.finish(), node, now_ms)?;
    Ok(Some(imported))
}

/// An import that was done, and cut short before it could say so: its mark must not stand where one of
/// ours has lost its format.
fn forget_begun(paths: &[PathBuf]) -> Result<(), ImportError> {
    let Some(first) = paths.first() else { return Ok(()) };
    let begun = first.join(BEGUN);
    if !begun.exists() || KafkaDir::taken(first)?.is_none() {
        return Ok(());
    }
    let sync = || fs::File::open(first).and_then(|dir| dir.sync_all());
    fs::remove_file(&begun).and_then(|()| sync()).map_err(failed("remove", &begun))
}

/// The directories, if the first is Kafka's.
fn find(paths: &[PathBuf]) -> Result<Option<Vec<(&Path, KafkaDir)>>, ImportError> {
    let mut dirs: Vec<(&Path, KafkaDir)> = Vec::new();
    for path in paths {
        let found = KafkaDir::find(path)?;
        match (found, dirs.first()) {
            (None, None) => {
                for other in paths {
                    if KafkaDir::find(other)?.is_some() {
                        let (kafka, other) = (other.clone(), path.clone());
                        return Err(ImportError::Mixed { kafka, other });
                    }
                }
                return Ok(None);
            }
            (found, Some((kafka, first))) => {
                // One that an import cut short has finished with already is ours.
                let found = found.map_or_else(|| KafkaDir::taken(path), |found| Ok(Some(found)))?;
                match found.filter(|dir| dir.cluster() == first.cluster()) {
                    Some(dir) => dirs.push((path, dir)),
                    None => {
                        let (kafka, other) = (kafka.to_path_buf(), path.clone());
                        return Err(ImportError::Mixed { kafka, other });
                    }
                }
            }
            (Some(dir), None) => dirs.push((path, dir)),
        }
    }
    if let Some((path, _)) = dirs.iter().find(|(_, dir)| !dir.is_clean()) {
        return Err(ImportError::Unclean(path.to_path_buf()));
    }
    match dirs.first() {
        Some((first, _)) if first.join(local::FOLDER).exists() && !first.join(BEGUN).exists() => {
            Err(ImportError::Ours(first.to_path_buf()))
        }
        _ => Ok(Some(dirs)),
    }
}

/// Enters the partitions in the data directory `path`, and what else is there.
fn list(
    path: &Path,
    directory: Uuid,
    topics: &mut Topics,
    left: &mut Vec<PathBuf>,
) -> Result<(), ImportError> {
    let starts = starts(path)?;
    let mut entries: Vec<_> = fs::read_dir(path)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(failed("list", path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (dir, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // Kafka follows links. One that leads nowhere may be a partition of a disk that is not there.
        let is_dir = fs::metadata(&dir).map_err(failed("look at", &dir))?.is_dir();
        // What an import that was cut short had begun, it begins again.
        if !is_dir || name == "lost+found" || name.starts_with(local::FOLDER) {
            continue;
        }
        let split = name.rsplit_once('-').and_then(|(topic, number)| {
            Some((TopicName::new(topic).ok()?, number.parse::<u32>().ok()?))
        });
        let is_unfinished = UNFINISHED.iter().any(|mark| name.ends_with(mark));
        let (topic, number) = match split.filter(|_| !is_unfinished) {
            Some((topic, number)) if !KAFKA_S_OWN.contains(&topic.as_str()) => (topic, number),
            _ => {
                left.push(dir);
                continue;
            }
        };
        let id = topic_id(&dir)?.ok_or_else(|| ImportError::NoId(dir.clone()))?;
        let start = starts.get(&name).copied();
        let partitions = topics.entry(topic.clone()).or_default();
        let is_other = partitions.values().any(|other| other.id != id);
        let found = Found { dir: dir.clone(), directory, id, start };
        if is_other || partitions.insert(number, found).is_some() {
            return Err(ImportError::Twice { dir, topic });
        }
    }
    Ok(())
}

fn topic_id(dir: &Path) -> Result<Option<Uuid>, ImportError> {
    let path = dir.join("partition.metadata");
    let text = match fs::read(&path) {
        Ok(bytes) if bytes.len() <= METADATA_BYTES_MAX => bytes,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&text);
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
    Ok(id.and_then(|id| data_dir::from_kafka_id(id.trim())))
}

/// Where logs begin that do not begin with their first segment, by the names of their directories:
/// Kafka's `log-start-offset-checkpoint`, `<topic> <partition> <offset>` a line below two of its own.
fn starts(path: &Path) -> Result<BTreeMap<String, Offset>, ImportError> {
    let path = path.join("log-start-offset-checkpoint");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let start = |line: &str| {
        let mut words = line.split(' ');
        let (topic, number, offset) = (words.next()?, words.next()?, words.next()?);
        Some((format!("{topic}-{number}"), Offset(offset.parse().ok()?)))
    };
    Ok(text.lines().skip(2).filter_map(start).collect())
}

/// The settings of a topic that is taken over.
fn settings(
    topic: &TopicName,
    partitions: &BTreeMap<u32, Found>,
    metadata: Option<&Metadata>,
    imported: &mut Imported,
) -> Settings {
    if topic.as_str() == OFFSETS_TOPIC {
        return Settings::offsets_topic();
    }
    let mut settings = Settings::default().with("retention.ms", "-1").expect("it is a setting");
    let found = partitions.values().next();
    let set = found.and_then(|found| metadata?.of(found.id, topic.as_str()));
    for (name, value) in set.into_iter().flatten() {
        let taken = match withheld(name, value) {
            Some(why) => Err(why.to_owned()),
            None => settings.set(name, value).map_err(|error| error.to_string()),
        };
        match taken {
            Ok(()) => imported.settings = imported.settings.map(|count| count + 1),
            Err(why) => imported.refused.push(format!("{topic}: {name}={value}: {why}")),
        }
    }
    settings
}

/// Why a setting is left to whoever takes the topics over.
fn withheld(name: &str, value: &str) -> Option<&'static str> {
    match name {
        // Kafka's copies are on other nodes, too, which may lose what is not synced.
        "flush.messages" | "flush.ms" => {
            Some("here each record is synced before its ack unless you set this")
        }
        "min.insync.replicas" if value.trim() != "1" => {
            Some("this node has the only copy, so nothing could be written with acks=all")
        }
        _ => None,
    }
}

/// The changes that make the catalogue.
struct Changes {
    node: NodeId,
    catalogue: Catalogue,
    all: Vec<Change>,
    producer_max: i64,
}

impl Changes {
    fn new(node: NodeId) -> Self {
        Self { node, catalogue: Catalogue::default(), all: Vec::new(), producer_max: -1 }
    }

    fn create(
        &mut self,
        name: &TopicName,
        partitions: &BTreeMap<u32, Found>,
        settings: Settings,
        epochs: &[i32],
    ) -> Result<(), ImportError> {
        let Some(id) = partitions.values().next().map(|found| found.id) else { return Ok(()) };
        let node = self.node;
        let assign = |partition: PartitionId| {
            let epoch = epochs[partition.0 as usize].saturating_add(EPOCHS_AHEAD);
            Assigned {
                leader: node,
                leader_epoch: LeaderEpoch(epoch.unsigned_abs()),
                in_sync: vec![node],
                directory: partitions[&partition.0].directory,
            }
        };
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        self.push(self.catalogue.create(id, name, count, settings, assign)?);
        Ok(())
    }

    fn push(&mut self, change: Change) {
        self.catalogue.apply(change.clone());
        self.all.push(change);
    }

    fn finish(mut self) -> Vec<Change> {
        let next = self.producer_max.saturating_add(1 + PRODUCER_IDS_AHEAD);
        self.push(Change::ProducerIdsTaken { next: ProducerId(next) });
        self.all
    }
}

fn write(
    dirs: &[(&Path, KafkaDir)],
    looked: &[Looked],
    changes: &[Change],
    node: NodeId,
    now_ms: UnixMillis,
) -> Result<(), ImportError> {
    let (first, _) = dirs[0];
    let begun = first.join(BEGUN);
    let sync = || fs::File::open(first).and_then(|dir| dir.sync_all());
    fs::write(&begun, "").and_then(|()| sync()).map_err(failed("write", &begun))?;
    failpoint::pass("import: begun");
    looked.iter().try_for_each(|one| one.log.adopt(&one.state))?;
    local::begin_with(first, changes, now_ms).map_err(failed("write the catalogue in", first))?;
    failpoint::pass("import: catalogue written");
    let node = u32::try_from(node.0).unwrap_or_default();
    // The first is what tells whether it is done.
    for (path, dir) in dirs.iter().rev() {
        dir.take_over(path, node)?;
        failpoint::pass("import: directory taken");
    }
    fs::remove_file(&begun).and_then(|()| sync()).map_err(failed("remove", &begun))
}

#[cfg(test)]
mod tests;
