//! Control batches: one record that a coordinator writes, not for consumers
//! (`ControlRecordType.java`, `EndTxnMarker.json`).

use bytes::{Bytes, BytesMut};

use super::{Attributes, BatchBuilder, BatchHeader, RecordRef, records};

/// What a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The producer's open transaction is void.
    Abort {
        /// Epoch of the transaction coordinator.
        coordinator_epoch: i32,
    },
    /// The producer's open transaction holds.
    Commit {
        /// Epoch of the transaction coordinator.
        coordinator_epoch: i32,
    },
    /// Another type: leader change, snapshot marks and what is still to come.
    Other(i16),
}

/// The bytes are no control batch.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed control batch: {0}")]
pub struct ControlError(&'static str);

impl Control {
    /// What the control batch `batch` says.
    ///
    /// # Errors
    /// [`ControlError`] where it is none, or not of one whole record.
    pub fn parse(batch: &Bytes, header: &BatchHeader) -> Result<Control, ControlError> {
        if !header.attributes.is_control() {
            return Err(ControlError("the control bit is not set"));
        }
        let mut all = records(batch, header).map_err(|_| ControlError("it is not plain"))?;
        let record = match (all.next(), all.next()) {
            (Some(Ok(record)), None) => record,
            _ => return Err(ControlError("it has not one whole record")),
        };
        let key = record.key.unwrap_or_default();
        let kind = match *key {
            [_, _, high, low, ..] => i16::from_be_bytes([high, low]),
            _ => return Err(ControlError("its key is too short")),
        };
        if kind > 1 {
            return Ok(Control::Other(kind));
        }
        let value = record.value.unwrap_or_default();
        let coordinator_epoch = match *value {
            [_, _, a, b, c, d, ..] => i32::from_be_bytes([a, b, c, d]),
            _ => return Err(ControlError("its value is too short")),
        };
        match kind {
            0 => Ok(Control::Abort { coordinator_epoch }),
            1 => Ok(Control::Commit { coordinator_epoch }),
            _ => Err(ControlError("its type is negative")),
        }
    }

    /// The batch that ends the transaction of a producer this way.
    ///
    /// # Panics
    /// For [`Control::Other`], which no transaction ends with.
    #[must_use]
    pub fn batch(self, timestamp: i64, producer_id: i64, producer_epoch: i16) -> BytesMut {
        let (kind, epoch) = match self {
            Control::Abort { coordinator_epoch } => (0_i16, coordinator_epoch),
            Control::Commit { coordinator_epoch } => (1, coordinator_epoch),
            Control::Other(kind) => panic!("control type {kind} ends no transaction"),
        };
        let mut key = [0; 4];
        key[2..].copy_from_slice(&kind.to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&epoch.to_be_bytes());
        let bits = Attributes(Attributes::CONTROL | Attributes::TRANSACTIONAL);
        let mut builder =
            BatchBuilder::new(timestamp).attributes(bits).producer(producer_id, producer_epoch, -1);
        builder.push(RecordRef {
            timestamp,
            key: Some(&key),
            value: Some(&value),
            ..RecordRef::default()
        });
        builder.build()
    }
}
