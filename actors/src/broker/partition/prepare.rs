//! What is done to batches before the core takes them, where their records must be looked at although
//! they are compressed, or compressed otherwise than they are (`compression.type`), as in Kafka's
//! `LogValidator`.
//!
//! It may take long, so it is done beside the arbiter, on one append of a partition at a time; the
//! appends that come behind it wait, since their order is their producers'. An append that needs
//! nothing of this, on a partition where none waits, is taken at once, and its bytes are those that came.

use std::{collections::VecDeque, rc::Rc};

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    aside::aside,
    batch::{self, BatchHeader, Compression},
    clock::UnixMillis,
};

use super::{
    messages::{Append, AppendError, Origin},
    request::AppendAnswer,
    validate::{self, Checked, Limits},
};

/// Tells one preparation from all others: it and the log's owner hold it.
#[derive(Clone, Default)]
pub(super) struct Turn(Rc<()>);

/// Appends that wait, in their order.
#[derive(Default)]
pub(super) struct Preparing {
    /// Of the append that is being prepared.
    pub(super) turn: Option<Turn>,
    pub(super) waiting: VecDeque<(Append, AppendAnswer)>,
}

/// An append that was prepared, and what came of it.
pub(super) struct Prepared {
    pub(super) turn: Turn,
    pub(super) append: Append,
    pub(super) answer: AppendAnswer,
    pub(super) batches: Result<BytesMut, AppendError>,
}

impl Preparing {
    pub(super) fn is_turn(&self, turn: &Turn) -> bool {
        self.turn.as_ref().is_some_and(|own| Rc::ptr_eq(&own.0, &turn.0))
    }

    /// Prepares an append beside the arbiter.
    pub(super) fn begin(
        &mut self,
        mut append: Append,
        answer: AppendAnswer,
        limits: Limits,
        now_ms: UnixMillis,
    ) -> impl Future<Output = Prepared> + use<> {
        let turn = Turn::default();
        self.turn = Some(turn.clone());
        let (batches, origin) = (std::mem::take(&mut append.batches), append.origin);
        async move {
            let batches = aside(move || prepare(batches, origin, &limits, now_ms)).await;
            Prepared { turn, append, answer, batches }
        }
    }
}

/// Whether `batches`, as they came, must be prepared. What is no batch is the core's to refuse.
pub(super) fn is_needed(batches: &[u8], limits: &Limits) -> bool {
    if limits.codec.is_none() && !limits.needs_records() {
        return false;
    }
    let mut headers = batch::split(batches).map_while(Result::ok);
    headers.any(|(header, _)| must_look(&header, limits))
}

fn must_look(header: &BatchHeader, limits: &Limits) -> bool {
    let is_plain = header.attributes.compression() == Compression::None;
    !header.attributes.is_control()
        && (limits.other_codec(header).is_some() || (limits.needs_records() && !is_plain))
}

/// The batches as the topic wants them: each that needs it is looked into, and compressed anew where it
/// must be.
pub(super) fn prepare(
    batches: BytesMut,
    origin: Origin,
    limits: &Limits,
    now_ms: UnixMillis,
) -> Result<BytesMut, AppendError> {
    let checked = validate::check_whole(&batches, limits)?;
    let came = batches.freeze();
    let mut prepared: Option<BytesMut> = None;
    for Checked { header, range } in checked {
        let batch = came.slice(range.clone());
        let other = prepare_one(&header, &batch, origin, limits, now_ms)?;
        if let Some(other) = other {
            let before = || BytesMut::from(&came[..range.start]);
            prepared.get_or_insert_with(before).unsplit(other);
        } else if let Some(prepared) = &mut prepared {
            prepared.extend_from_slice(&batch);
        }
    }
    Ok(prepared.unwrap_or_else(|| BytesMut::from(came)))
}

/// Another batch in the place of this one, where there must be.
fn prepare_one(
    header: &BatchHeader,
    batch: &Bytes,
    origin: Origin,
    limits: &Limits,
    now_ms: UnixMillis,
) -> Result<Option<BytesMut>, AppendError> {
    validate::check_as_leader(header, origin, limits, now_ms).map_err(AppendError::Invalid)?;
    if !must_look(header, limits) {
        return Ok(None);
    }
    let invalid = |error: &batch::BatchError| AppendError::Invalid(error.into());
    let records =
        batch::expand(batch, header, limits.expanded_bytes_max).map_err(|e| invalid(&e))?;
    let looked = validate::check_records(header, records.clone(), limits, now_ms);
    let max_timestamp = looked.map_err(AppendError::Invalid)?;
    let Some(codec) = limits.other_codec(header) else { return Ok(None) };
    let header = BatchHeader { max_timestamp, ..*header };
    Ok(Some(batch::recode(&header, &records, codec)))
}

#[cfg(test)]
mod tests {
    use flumen_runtime::batch::{BatchBuilder, Codec, RecordRef};

    use super::{super::messages::InvalidBatch, *};

    const NOW: UnixMillis = 10_000_000;

    /// A batch of `count` records, each a second older than the one before, under a codec.
    fn batch(compression: Compression, count: u8, key: Option<&[u8]>) -> BytesMut {
        let mut builder = BatchBuilder::new(NOW).producer(7, 1, 30);
        for at in 0..count {
            let (timestamp, value) = (NOW - 1_000 * i64::from(at), Some(&[at; 100][..]));
            builder.push(RecordRef { timestamp, key, value, headers: &[] });
        }
        under(&builder.build().freeze(), compression)
    }

    fn under(batch: &Bytes, compression: Compression) -> BytesMut {
        let header = BatchHeader::parse(batch).unwrap();
        let records = batch::expand(batch, &header, 1 << 20).unwrap();
        batch::recode(&header, &records, compression.into())
    }

    fn run(batches: BytesMut, limits: Limits) -> Result<BytesMut, AppendError> {
        prepare(batches, Origin::Client, &limits, NOW)
    }

    fn invalid(batches: BytesMut, limits: Limits) -> InvalidBatch {
        match run(batches, limits) {
            Err(AppendError::Invalid(invalid)) => invalid,
            other => panic!("{other:?}"),
        }
    }

    fn demanding(compression: Compression) -> Limits {
        Limits { codec: Some(Codec::from(compression)), ..Limits::default() }
    }

    #[test]
    fn only_what_must_change_is_touched_and_its_records_and_producer_are_the_same() {
        use Compression::{Gzip, Lz4, None, Snappy, Zstd};
        for from in [None, Gzip, Snappy, Lz4, Zstd] {
            assert!(!is_needed(&batch(from, 3, Option::None), &Limits::default()));
            for to in [None, Gzip, Snappy, Lz4, Zstd] {
                let came = batch(from, 3, Option::None);
                let limits = demanding(to);
                assert_eq!(is_needed(&came, &limits), from != to);
                let two = [&came[..], &batch(to, 2, Option::None)].concat();
                let made = run(BytesMut::from(&two[..]), limits).unwrap().freeze();
                let headers: Vec<_> = batch::split(&made).map(Result::unwrap).collect();
                assert_eq!(headers.len(), 2);
                for (header, bytes) in &headers {
                    batch::check(bytes, header).unwrap();
                    assert_eq!(header.attributes.compression(), to);
                    assert_eq!((header.producer_id, header.base_sequence), (7, 30));
                }
                let first = under(&made.slice_ref(headers[0].1), None);
                assert_eq!(first, batch(None, 3, Option::None));
            }
        }
    }

    #[test]
    fn the_records_inside_a_compressed_batch_keep_to_what_those_of_a_plain_one_do() {
        let compacted = Limits { needs_keys: true, ..Limits::default() };
        let recent = Limits { behind_ms_max: 1_500, ..Limits::default() };
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (keyed, keyless) = (batch(compression, 3, Some(b"k")), batch(compression, 3, None));
            assert!(is_needed(&keyed, &compacted) && is_needed(&keyed, &recent));
            assert_eq!(run(keyed.clone(), compacted).unwrap(), keyed);
            assert_eq!(
                invalid(keyless.clone(), compacted),
                InvalidBatch::Keyless { indexes: vec![0, 1, 2] }
            );
            // The first record is young enough, and the header tells of no other.
            let old = InvalidBatch::Old { timestamp_ms: NOW - 2_000, behind_ms_max: 1_500 };
            assert_eq!(invalid(keyless, recent), old);
        }
    }

    #[test]
    fn what_cannot_be_decompressed_or_is_not_what_it_says_is_refused() {
        let mut header = BatchHeader::parse(&batch(Compression::Gzip, 3, None)).unwrap();
        let good = batch(Compression::None, 3, None).freeze();
        let records = batch::records(&good, &BatchHeader::parse(&good).unwrap()).unwrap();
        // A batch that says gzip and is plain.
        let mut lying = BytesMut::from(&good[..]);
        header.attributes = header.attributes.with_compression(Compression::Gzip);
        lying[22] |= 1;
        let sum = flumen_runtime::codec::crc32c(&[&lying[21..]]);
        lying[17..21].copy_from_slice(&sum.to_be_bytes());
        let zstd = demanding(Compression::Zstd);
        assert_eq!(invalid(lying, zstd), InvalidBatch::Block(Compression::Gzip));
        let small = Limits { expanded_bytes_max: 300, ..zstd };
        let expands = InvalidBatch::Expands { bytes_max: 300 };
        assert_eq!(invalid(batch(Compression::Gzip, 3, None), small), expands);
        // One record fewer, and one more, than the header counts.
        for count in [2, 4] {
            header.record_count = count;
            header.last_offset_delta = count - 1;
            let other = batch::recode(&header, &records, Compression::Gzip.into());
            assert!(matches!(invalid(other, zstd), InvalidBatch::Record { .. }), "{count}");
        }
    }

    #[test]
    fn a_header_does_not_hide_a_time_that_is_too_far_ahead() {
        let mut builder = BatchBuilder::new(NOW);
        for timestamp in [NOW, NOW + 3_600_001] {
            builder.push(RecordRef { timestamp, ..RecordRef::default() });
        }
        let honest = builder.build().freeze();
        let header = BatchHeader { max_timestamp: NOW, ..BatchHeader::parse(&honest).unwrap() };
        let records = batch::records(&honest, &header).unwrap();
        let ahead = batch::recode(&header, &records, Compression::Gzip.into());
        let invalid = invalid(ahead.clone(), demanding(Compression::Zstd));
        assert!(matches!(invalid, InvalidBatch::Timestamp { .. }), "{invalid:?}");
        // Whose times are the log's does not ask.
        let limits = Limits { is_append_time: true, ..demanding(Compression::Zstd) };
        assert!(run(ahead, limits).is_ok());
    }

    #[test]
    fn the_header_gets_the_largest_time_of_the_records() {
        let good = batch(Compression::None, 3, None).freeze();
        let mut header = BatchHeader::parse(&good).unwrap();
        let records = batch::records(&good, &header).unwrap();
        header.max_timestamp = 5;
        let lying = batch::recode(&header, &records, Compression::Lz4.into());
        let made = run(lying, demanding(Compression::Gzip)).unwrap();
        assert_eq!(BatchHeader::parse(&made).unwrap().max_timestamp, NOW);
    }
}
