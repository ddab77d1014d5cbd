//! A segment: its batches, and their records.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use bytes::Bytes;
use flumen_runtime::batch::{self, BatchHeader, EXPANDED_BYTES_MAX, HEADER_BYTES, Record};
use serde_json::{Value, json};

use super::{super::CliError, Teller, groups::Found};

/// The base offset that a segment's file is named after.
pub(super) fn base(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// A segment that is read batch by batch.
pub(super) struct Dump {
    input: BufReader<File>,
    /// Where the next batch begins, and how long the file is.
    at: u64,
    length: u64,
}

impl Dump {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { input: BufReader::with_capacity(256 << 10, file), at: 0, length })
    }

    /// Says what is in it, up to its end or to the first bytes that are no batch.
    pub(super) fn run(mut self, teller: &mut Teller) -> Result<Option<String>, CliError> {
        while self.at < self.length {
            teller.at(self.at);
            let (header, bytes) = match self.next() {
                Ok(Some(next)) => next,
                Ok(None) => {
                    let (at, length) = (self.at, self.length);
                    teller.tell(
                        || {
                            format!(
                                "zeros from byte {at} to {length}: room that a node has made ahead"
                            )
                        },
                        || json!({ "zeros_from": at, "bytes": length - at }),
                    )?;
                    return Ok(None);
                }
                Err(why) => return Ok(Some(format!("byte {}: {why}", self.at))),
            };
            let at = self.at;
            self.at += u64::from(header.batch_bytes);
            let is_whole = batch::check(&bytes, &header).is_ok();
            teller.tell(|| text(at, &header, is_whole), || object(at, &header, is_whole))?;
            if !is_whole {
                return Ok(Some(format!("byte {at}: the batch fails its checksum")));
            }
            if teller.records
                && let Some(why) = records(&bytes, &header, teller)?
            {
                return Ok(Some(format!("byte {at}: {why}")));
            }
        }
        Ok(None)
    }

    /// The next batch; none where only zeros follow.
    fn next(&mut self) -> Result<Option<(BatchHeader, Bytes)>, String> {
        let left = self.length - self.at;
        let mut head = [0; HEADER_BYTES];
        let wanted = left.min(HEADER_BYTES as u64) as usize;
        self.read(&mut head[..wanted])?;
        if head[..wanted].iter().all(|byte| *byte == 0) {
            return match self.is_zero_to_the_end() {
                Ok(true) => Ok(None),
                Ok(false) => Err("zeros, and other bytes behind them".to_owned()),
                Err(error) => Err(error.to_string()),
            };
        }
        if left < HEADER_BYTES as u64 {
            return Err(format!("{left} bytes are left, which is no batch"));
        }
        let header = BatchHeader::parse(&head).map_err(|error| error.to_string())?;
        // Its length is a claim until the file is seen to be as long.
        if u64::from(header.batch_bytes) > left {
            return Err(format!(
                "a batch of {} bytes begins, and {left} are left",
                header.batch_bytes
            ));
        }
        let mut bytes = vec![0; header.batch_bytes as usize];
        bytes[..HEADER_BYTES].copy_from_slice(&head);
        self.read(&mut bytes[HEADER_BYTES..])?;
        Ok(Some((header, bytes.into())))
    }

    fn read(&mut self, to: &mut [u8]) -> Result<(), String> {
        self.input.read_exact(to).map_err(|error| error.to_string())
    }

    fn is_zero_to_the_end(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = self.input.read(&mut piece)?;
            if read == 0 {
                return Ok(true);
            }
            if piece[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }
}

fn text(at: u64, header: &BatchHeader, is_whole: bool) -> String {
    let BatchHeader { base_offset, record_count, batch_bytes, .. } = header;
    let attributes = header.attributes;
    let mut text = format!(
        "offsets {base_offset} to {}  records {record_count}  byte {at}  bytes {batch_bytes}  epoch {}  \
         time {}  compression {:?}",
        header.last_offset(),
        header.leader_epoch,
        header.max_timestamp,
        attributes.compression()
    );
    if header.producer_id >= 0 {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let (first, last) = (header.base_sequence, header.last_sequence());
        text += &format!("  producer {id} epoch {epoch} sequence {first} to {last}");
    }
    for (is, word) in [
        (attributes.is_transactional(), "transactional"),
        (attributes.is_control(), "control"),
        (attributes.is_log_append_time(), "log's time"),
        (attributes.has_delete_horizon(), "delete horizon"),
        (!is_whole, "CHECKSUM WRONG"),
    ] {
        if is {
            text = format!("{text}  {word}");
        }
    }
    text
}

fn object(at: u64, header: &BatchHeader, is_whole: bool) -> Value {
    let attributes = header.attributes;
    json!({
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "records": header.record_count,
        "position": at,
        "bytes": header.batch_bytes,
        "leader_epoch": header.leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "timestamp_type": if attributes.is_log_append_time() { "LogAppendTime" } else { "CreateTime" },
        "compression": format!("{:?}", attributes.compression()).to_lowercase(),
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "last_sequence": header.last_sequence(),
        "transactional": attributes.is_transactional(),
        "control": attributes.is_control(),
        "delete_horizon": attributes.has_delete_horizon(),
        "crc": header.crc,
        "crc_is_right": is_whole,
    })
}

fn records(
    bytes: &Bytes,
    header: &BatchHeader,
    teller: &mut Teller,
) -> Result<Option<String>, CliError> {
    let records = match batch::expand(bytes, header, EXPANDED_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => return Ok(Some(error.to_string())),
    };
    for record in records {
        match record {
            Ok(record) if teller.of_groups && !header.attributes.is_control() => {
                let found = Found::of(&record);
                teller.tell(|| group_text(&record, &found), || group_object(&record, &found))?;
            }
            Ok(record) => teller.tell(|| record_text(&record), || record_object(&record))?,
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    Ok(None)
}

fn shown(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

fn record_text(record: &Record) -> String {
    let (key, value) = (shown(record.key.as_ref()), shown(record.value.as_ref()));
    let headers: String = record
        .headers()
        .map(|(name, value)| format!("  {name}={}", shown(value.as_ref())))
        .collect();
    format!("  | {}  time {}  key {key}  value {value}{headers}", record.offset, record.timestamp)
}

fn record_object(record: &Record) -> Value {
    let text = |bytes: Option<&Bytes>| bytes.map(|bytes| bytes.escape_ascii().to_string());
    let headers = record
        .headers()
        .map(|(name, value)| json!({ "name": name, "value": text(value.as_ref()) }));
    json!({
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "key": text(record.key.as_ref()),
        "value": text(record.value.as_ref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

fn group_text(record: &Record, found: &Found) -> String {
    format!("  | {}  time {}  {}", record.offset, record.timestamp, found.text())
}

fn group_object(record: &Record, found: &Found) -> Value {
    json!({
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "decoded": found.object(),
    })
}
