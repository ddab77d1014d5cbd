//! What Kafka's metadata says of the topics' settings: the newest snapshot, and what its log has more.
//!
//! The value of a record is a frame version, the record's kind and its version, each an unsigned varint,
//! and then its fields: Kafka's `AbstractApiMessageSerde`, and the shapes below
//! `metadata/src/main/resources/common/metadata`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flumen_runtime::{
    batch::{self, BatchHeader, EXPANDED_BYTES_MAX},
    ids::Offset,
    log::adopt::{self, AdoptError},
};
use uuid::Uuid;

use super::{ImportError, failed};
use crate::broker::group_coordinator::wire::{Reader, WireError};

/// Where it stands in one of the log directories.
pub(super) const FOLDER: &str = "__cluster_metadata-0";

const FRAME_VERSION: u32 = 1;
const TOPIC: u32 = 2;
const PARTITION: u32 = 3;
const CONFIG: u32 = 4;
const REMOVE_TOPIC: u32 = 9;
/// A config record's kind of resource.
const OF_TOPIC: i8 = 2;

/// Settings by their names.
pub(super) type Set = BTreeMap<String, String>;

/// Topics and what was set on them.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    names: BTreeMap<Uuid, String>,
    /// How many partitions a topic has.
    partitions: BTreeMap<Uuid, u32>,
    settings: BTreeMap<String, Set>,
}

impl Metadata {
    /// Reads it where one of these log directories has it.
    pub(super) fn find<'a>(
        paths: impl Iterator<Item = &'a Path>,
    ) -> Result<Option<Self>, ImportError> {
        let mut folders = paths.map(|path| path.join(FOLDER));
        let found = folders.find(|dir| dir.is_dir());
        found.map(|dir| Self::read(&dir)).transpose()
    }

    /// What was set on the topic of this name and id.
    pub(super) fn of(&self, id: Uuid, name: &str) -> Option<&Set> {
        let is_it = self.names.get(&id).is_some_and(|known| known == name);
        self.settings.get(name).filter(|_| is_it)
    }

    /// All topics, with their ids and how many partitions they have.
    pub(super) fn topics(&self) -> impl Iterator<Item = (Uuid, &str, u32)> {
        let partitions = |id| self.partitions.get(id).copied().unwrap_or(0);
        self.names.iter().map(move |(id, name)| (*id, name.as_str(), partitions(id)))
    }

    fn read(dir: &Path) -> Result<Self, ImportError> {
        let mut all = Self::default();
        let mut from = Offset::ZERO;
        if let Some((end, path)) = newest_snapshot(dir)? {
            let bytes = Bytes::from(fs::read(&path).map_err(failed("read", &path))?);
            for found in batch::split(&bytes) {
                let unreadable = |reason: String| unreadable(&path, &reason);
                let (header, whole) = found.map_err(|error| unreadable(error.to_string()))?;
                batch::check(whole, &header).map_err(|error| unreadable(error.to_string()))?;
                all.take_batch(&header, &bytes.slice_ref(whole)).map_err(unreadable)?;
            }
            from = end;
        }
        let (mut first, mut refused) = (None, None);
        let looked = adopt::look_through(dir, None, |header, batch| {
            first = first.or(Some(header.base_offset));
            if header.base_offset >= from && refused.is_none() {
                refused = all.take_batch(header, batch).err();
            }
        });
        if let Some(first) = first.filter(|first| *first > from) {
            let reason =
                format!("its log begins at offset {first}, and its snapshots end at {from}");
            return Err(unreadable(dir, &reason));
        }
        match (looked, refused) {
            (_, Some(reason)) => Err(unreadable(dir, &reason)),
            (Err(AdoptError::Empty(_)) | Ok(_), None) => Ok(all),
            (Err(error), None) => Err(unreadable(dir, &error.to_string())),
        }
    }

    fn take_batch(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<(), String> {
        if header.attributes.is_control() {
            return Ok(());
        }
        let records = batch::expand(batch, header, EXPANDED_BYTES_MAX);
        for record in records.map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let value = record.value.as_deref().unwrap_or_default();
            self.take(value).map_err(|error| {
                format!("a record of the batch at offset {}: {error}", header.base_offset)
            })?;
        }
        Ok(())
    }

    fn take(&mut self, value: &[u8]) -> Result<(), WireError> {
        let mut fields = Reader::new(value);
        if fields.uvarint()? != FRAME_VERSION {
            return Err(WireError::Invalid("its frame is of another version"));
        }
        let (kind, version) = (fields.uvarint()?, fields.uvarint()?);
        match (kind, version) {
            (TOPIC, 0) => {
                let (name, id) = (fields.string(true)?, fields.uuid()?);
                self.names.insert(id, name.to_owned());
            }
            (PARTITION, 0..=2) => {
                let (number, id) = (fields.i32()?, fields.uuid()?);
                let number = u32::try_from(number);
                let number = number.map_err(|_| WireError::Invalid("a partition's number"))?;
                let partitions = self.partitions.entry(id).or_default();
                *partitions = (*partitions).max(number.saturating_add(1));
            }
            (CONFIG, 0) => {
                let (of, resource) = (fields.i8()?, fields.string(true)?);
                let (name, value) = (fields.string(true)?, fields.nullable_string(true)?);
                if of == OF_TOPIC {
                    let settings = self.settings.entry(resource.to_owned()).or_default();
                    match value {
                        Some(value) => settings.insert(name.to_owned(), value.to_owned()),
                        None => settings.remove(name),
                    };
                }
            }
            (REMOVE_TOPIC, 0 | 1) => {
                let id = fields.uuid()?;
                self.partitions.remove(&id);
                if let Some(name) = self.names.remove(&id) {
                    self.settings.remove(&name);
                }
            }
            (TOPIC | PARTITION | CONFIG | REMOVE_TOPIC, _) => {
                return Err(WireError::Invalid(
                    "it is of a later version, whose fields may be others",
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The snapshot that goes furthest, and up to where: `<20 digits of its end>-<epoch>.checkpoint`.
fn newest_snapshot(dir: &Path) -> Result<Option<(Offset, PathBuf)>, ImportError> {
    let mut newest = None;
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let path = entry.map_err(failed("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let end = name.strip_suffix(".checkpoint").and_then(|name| {
            let (end, _) = name.split_once('-')?;
            Some(Offset(end.parse().ok()?))
        });
        newest = newest.max(end.map(|end| (end, path.clone())));
    }
    Ok(newest)
}

fn unreadable(path: &Path, reason: &str) -> ImportError {
    ImportError::Metadata { path: path.to_path_buf(), reason: reason.to_owned() }
}
