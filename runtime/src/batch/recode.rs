//! The same records under another codec.

use bytes::{Bytes, BytesMut};

use super::{BatchHeader, Codec, HEADER_BYTES, Records, compression};

/// The batch of `header` with its `records`, of which none was read yet, compressed by `codec`. All else
/// that it says stays, but for its length and its checksum.
#[must_use]
pub fn recode(header: &BatchHeader, records: &Records, codec: Codec) -> BytesMut {
    let mut header = *header;
    header.attributes = header.attributes.with_compression(codec.compression);
    let mut bytes = vec![0; HEADER_BYTES];
    compression::compress(codec, records.rest(), &mut bytes);
    header.seal(&mut bytes);
    BytesMut::from(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, BatchBuilder, Compression, RecordRef};

    #[test]
    fn records_and_header_are_the_same_under_every_codec() {
        let mut builder = BatchBuilder::new(1_000).producer(7, 2, 40);
        for at in 0..100_u8 {
            builder.push(RecordRef {
                timestamp: 1_000 + i64::from(at),
                key: Some(&[at]),
                value: Some(b"a value that is worth compressing"),
                headers: &[("name", None)],
            });
        }
        let plain = builder.build().freeze();
        let before = BatchHeader::parse(&plain).unwrap();
        let all: Vec<_> = batch::records(&plain, &before).unwrap().map(Result::unwrap).collect();
        let mut bytes = plain.clone();
        let mut sizes = Vec::new();
        for compression in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
            Compression::None,
        ] {
            let header = BatchHeader::parse(&bytes).unwrap();
            let records = batch::expand(&bytes, &header, 1 << 20).unwrap();
            bytes = recode(&header, &records, compression.into()).freeze();
            let header = BatchHeader::parse(&bytes).unwrap();
            batch::check(&bytes, &header).unwrap();
            assert_eq!(header.attributes.compression(), compression);
            let records = batch::expand(&bytes, &header, 1 << 20).unwrap();
            assert_eq!(records.map(Result::unwrap).collect::<Vec<_>>(), all);
            let (attributes, batch_bytes, crc) =
                (before.attributes, before.batch_bytes, before.crc);
            assert_eq!(BatchHeader { attributes, batch_bytes, crc, ..header }, before);
            sizes.push(bytes.len());
        }
        assert_eq!(bytes, plain, "as it was");
        assert!(sizes[..4].iter().all(|size| *size < plain.len() / 2), "{sizes:?}");
    }
}
