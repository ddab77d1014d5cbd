//! Batches for the tests of a partition, made by hand so that any field can be wrong.

use bytes::{BufMut, BytesMut};
use flumen_runtime::{batch::control::Control, codec::crc32c};

/// A batch to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) count: u32,
    pub(crate) payload: usize,
    pub(crate) attributes: u16,
    pub(crate) producer: (i64, i16, i32),
    pub(crate) max_timestamp: i64,
    pub(crate) base_offset: u64,
    pub(crate) epoch: u32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            count: 1,
            payload: 10,
            attributes: 0,
            producer: (-1, -1, -1),
            max_timestamp: 0,
            base_offset: 0,
            epoch: 0,
        }
    }
}

pub(crate) const TRANSACTIONAL: u16 = 0x10;
pub(crate) const CONTROL: u16 = 0x20;
pub(crate) const DELETE_HORIZON: u16 = 0x40;

impl Spec {
    pub(crate) fn build(self) -> BytesMut {
        self.with_payload(&vec![0xAB; self.payload])
    }

    pub(crate) fn with_payload(self, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u64(self.base_offset);
        out.put_u32(49 + payload.len() as u32);
        out.put_u32(self.epoch);
        out.put_u8(2);
        out.put_u32(0);
        out.put_u16(self.attributes);
        out.put_u32(self.count.wrapping_sub(1));
        out.put_i64(self.max_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer.0);
        out.put_i16(self.producer.1);
        out.put_i32(self.producer.2);
        out.put_u32(self.count);
        out.put_slice(payload);
        reseal(&mut out);
        out
    }
}

/// The marker that ends a transaction of `producer`.
pub(crate) fn marker(producer: (i64, i16), is_commit: bool, coordinator_epoch: i32) -> BytesMut {
    let control = if is_commit {
        Control::Commit { coordinator_epoch }
    } else {
        Control::Abort { coordinator_epoch }
    };
    control.batch(0, producer.0, producer.1)
}

/// Sets the checksum right after a change.
pub(crate) fn reseal(batch: &mut BytesMut) {
    let crc = crc32c(&[&batch[21..]]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
