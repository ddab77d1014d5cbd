//! From the bytes of a partition to its records.

use std::ops::Range;

use bytes::Bytes;
use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::{
    aside::aside,
    batch::{self, BatchError, BatchHeader, Compression, EXPANDED_BYTES_MAX, RecordView},
    ids::Offset,
};

use super::outlet::StageError;

/// Shows the records of `offsets` that the whole batches in `bytes` hold, back to back. Control
/// batches are passed over.
///
/// # Errors
/// [`StageError::Unreadable`], or what `see` answers.
pub(super) async fn each_record(
    partition: &TopicPartition,
    bytes: &Bytes,
    offsets: Range<Offset>,
    mut see: impl AsyncFnMut(&RecordView<'_>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let unreadable = |offset, error: BatchError| StageError::Unreadable {
        partition: partition.clone(),
        offset,
        reason: error.to_string(),
    };
    let mut at = 0;
    while at < bytes.len() {
        let header =
            BatchHeader::parse(&bytes[at..]).map_err(|error| unreadable(offsets.start, error))?;
        let whole = bytes.slice(at..at + header.batch_bytes as usize);
        at += whole.len();
        if header.attributes.is_control() {
            continue;
        }
        let all = expand(whole, header).await;
        let mut all = all.map_err(|error| unreadable(header.base_offset, error))?;
        while let Some(record) = all.lend() {
            let record = record.map_err(|error| unreadable(header.base_offset, error))?;
            if offsets.contains(&record.offset) {
                see(&record).await?;
            }
        }
    }
    Ok(())
}

/// The records of a batch; compressed ones are expanded beside the arbiter.
async fn expand(batch: Bytes, header: BatchHeader) -> Result<batch::Records, BatchError> {
    match header.attributes.compression() {
        Compression::None => batch::records(&batch, &header),
        _ => aside(move || batch::expand(&batch, &header, EXPANDED_BYTES_MAX)).await,
    }
}
