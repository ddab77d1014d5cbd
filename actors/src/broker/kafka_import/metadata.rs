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

/// Where it stands in one of the log directories.
pub(super) const FOLDER: &str = "__cluster_metadata-0";

const FRAME_VERSION: u32 = 1;
const TOPIC: u32 = 2;
const CONFIG: u32 = 4;
const REMOVE_TOPIC: u32 = 9;
/// A config record's kind of resource.
const OF_TOPIC: u8 = 2;

/// Settings by their names.
pub(super) type Set = BTreeMap<String, String>;

/// Topics and what was set on them.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    names: BTreeMap<Uuid, String>,
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
            let place = || format!("a record of the batch at offset {}", header.base_offset);
            self.take(value).ok_or_else(|| format!("{} is not understood", place()))?;
        }
        Ok(())
    }

    /// Takes note of a record; none where it is not understood.
    fn take(&mut self, value: &[u8]) -> Option<()> {
        let mut fields = Fields(value);
        if fields.uvarint()? != FRAME_VERSION {
            return None;
        }
        let (kind, version) = (fields.uvarint()?, fields.uvarint()?);
        match (kind, version) {
            (TOPIC, 0) => {
                let (name, id) = (fields.string()??, fields.uuid()?);
                self.names.insert(id, name);
            }
            (CONFIG, 0) => {
                let of = fields.bytes(1)?[0];
                let (resource, name) = (fields.string()??, fields.string()??);
                let value = fields.string()?;
                if of == OF_TOPIC {
                    let settings = self.settings.entry(resource).or_default();
                    match value {
                        Some(value) => settings.insert(name, value),
                        None => settings.remove(&name),
                    };
                }
            }
            (REMOVE_TOPIC, 0 | 1) => {
                if let Some(name) = self.names.remove(&fields.uuid()?) {
                    self.settings.remove(&name);
                }
            }
            // A later version, whose fields may be others.
            (TOPIC | CONFIG | REMOVE_TOPIC, _) => return None,
            _ => {}
        }
        Some(())
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

/// The fields of a record that are not read yet, in Kafka's flexible encoding.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn uvarint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// One that may be null.
    #[expect(clippy::option_option, reason = "not there, and null")]
    fn string(&mut self) -> Option<Option<String>> {
        let Some(len) = self.uvarint()?.checked_sub(1) else { return Some(None) };
        let bytes = self.bytes(usize::try_from(len).ok()?)?;
        Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
    }

    fn uuid(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.bytes(16)?).ok()
    }
}
