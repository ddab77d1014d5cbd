//! How a put stands in the channel's log: one record batch v2, position and events together.
//!
//! | record | key | value | headers |
//! |---|---|---|---|
//! | first, where the source moved | `position` | [`Advance`] in bincode | – |
//! | one for each event | – | its body | its headers, in the order of names |
//!
//! Since a batch is whole or not there, so are events and position. The timestamp of all records is
//! when they were put. Any tool that reads Kafka's batches shows the events.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchError, BatchHeader, Record, RecordRef},
    codec,
    ids::Offset,
};
use smallvec::SmallVec;

use crate::agent::{
    channel::TakenEvent,
    event::{Advance, Event, Headers, Text},
};

const POSITION: &[u8] = b"position";

/// A batch that is no put.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PutRecordError {
    /// The batch contradicts itself.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A record is no event and no position.
    #[error("record {offset} is no event: {why}")]
    Record {
        /// Which.
        offset: Offset,
        /// What is wrong.
        why: String,
    },
}

/// The batch of a put, to be stamped with its offset; `None` where there is nothing to keep.
#[must_use]
pub fn encode(events: &[Event], advance: &Advance, put_ms: i64) -> Option<BytesMut> {
    let bytes: usize = events.iter().map(Event::cost).sum();
    let mut builder = BatchBuilder::with_capacity(put_ms, bytes + 256);
    if !advance.parts.is_empty() {
        let value = codec::encode(advance).expect("names and bytes are encodable");
        let (key, value) = (Some(POSITION), Some(value.as_slice()));
        builder.push(RecordRef { timestamp: put_ms, key, value, headers: &[] });
    }
    for event in events {
        push(&mut builder, event, None, put_ms);
    }
    (!builder.is_empty()).then(|| builder.build())
}

/// Appends `event` to a batch, as any log of ours and any topic has it.
pub fn push(builder: &mut BatchBuilder, event: &Event, key: Option<&[u8]>, timestamp: i64) {
    let fields = event.headers.iter().map(|(name, value)| (&**name, Some(value.as_bytes())));
    let headers: SmallVec<[_; 4]> = fields.collect();
    let value = Some(event.body.as_ref());
    builder.push(RecordRef { timestamp, key, value, headers: &headers });
}

/// What a put's batch holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// How the position of its source moved.
    pub advance: Option<Advance>,
    /// Its events from a wanted offset on.
    pub events: Vec<TakenEvent>,
}

/// Reads a batch whose checksum was verified; leaves events below `from` out.
///
/// # Errors
/// [`PutRecordError`] where it was not written by [`encode`].
pub fn decode(
    batch: &Bytes,
    header: &BatchHeader,
    from: Offset,
) -> Result<Decoded, PutRecordError> {
    let mut decoded = Decoded::default();
    for record in batch::records(batch, header)? {
        let record = record?;
        match record.key.as_deref() {
            Some(POSITION) => {
                let refused = |why: String| PutRecordError::Record { offset: record.offset, why };
                let value = record.value.as_deref().unwrap_or_default();
                let advance = codec::decode(value).map_err(|error| refused(error.to_string()))?;
                decoded.advance = Some(advance);
            }
            _ if record.offset < from => {}
            _ => {
                let before = decoded.events.last().map(|taken| &taken.event.headers);
                let event = event_of(&record, before)?;
                let (offset, put_ms) = (record.offset, record.timestamp);
                decoded.events.push(TakenEvent { offset, put_ms, event });
            }
        }
    }
    Ok(decoded)
}

/// The event of a record. Strings that it shares with the one before it are shared again.
fn event_of(record: &Record, before: Option<&Headers>) -> Result<Event, PutRecordError> {
    let mut headers = Headers::new();
    let mut before = before.into_iter().flat_map(Headers::iter);
    for (name, value) in record.headers() {
        let (like_name, like_value) = before.next().unzip();
        let value = value.unwrap_or_default();
        let value = std::str::from_utf8(&value).map_err(|_| PutRecordError::Record {
            offset: record.offset,
            why: format!("its header `{name}` is not UTF-8"),
        })?;
        headers.insert(shared(name, like_name), shared(value, like_value));
    }
    Ok(Event { headers, body: record.value.clone().unwrap_or_default() })
}

fn shared(text: &str, like: Option<&Text>) -> Text {
    like.filter(|like| like.as_ref() == text).map_or_else(|| Arc::from(text), Text::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::event::PositionBytes;

    fn advance() -> Advance {
        let parts = vec![("1:2".to_owned(), Some(PositionBytes(vec![7]))), ("x".to_owned(), None)];
        Advance { source: "tail".into(), parts }
    }

    fn decoded(batch: BytesMut, from: u64) -> Decoded {
        let batch = batch.freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        batch::check(&batch, &header).unwrap();
        decode(&batch, &header, Offset(from)).unwrap()
    }

    #[test]
    fn events_and_position_come_back_as_they_were_put() {
        let headers: Headers = [("host", "web-1"), ("", "")].into_iter().collect();
        let events: Vec<Event> = ["a", "", "c"]
            .map(|body| Event { headers: headers.clone(), body: body.into() })
            .to_vec();
        let back = decoded(encode(&events, &advance(), 99).unwrap(), 0);
        assert_eq!(back.advance, Some(advance()));
        let offsets: Vec<u64> = back.events.iter().map(|taken| taken.offset.0).collect();
        assert_eq!(offsets, [1, 2, 3], "the position takes the first");
        assert!(back.events.iter().all(|taken| taken.put_ms == 99));
        assert_eq!(back.events.into_iter().map(|taken| taken.event).collect::<Vec<_>>(), events);
    }

    #[test]
    fn events_below_the_wanted_offset_are_left_out() {
        let events = ["a", "b", "c"].map(Event::new);
        let back = decoded(encode(&events, &advance(), 0).unwrap(), 3);
        assert_eq!(back.events.len(), 1);
        assert_eq!(back.events[0].event.body, "c");
    }

    #[test]
    fn nothing_to_keep_is_no_batch() {
        let still = Advance { source: "tail".into(), parts: Vec::new() };
        assert_eq!(encode(&[], &still, 0), None);
        assert_eq!(decoded(encode(&[], &advance(), 0).unwrap(), 0).advance, Some(advance()));
    }

    #[test]
    fn a_foreign_record_is_refused() {
        let mut builder = BatchBuilder::new(0);
        let headers: &[(&str, Option<&[u8]>)] = &[("h", Some(&[0xff]))];
        builder.push(RecordRef { timestamp: 0, key: None, value: None, headers });
        let batch = builder.build().freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(matches!(decode(&batch, &header, Offset(0)), Err(PutRecordError::Record { .. })));
    }
}
