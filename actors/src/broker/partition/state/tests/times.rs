//! Whose timestamps records have, and how far from the clock they may be.

use flumen_runtime::batch::{self, BatchBuilder, RecordRef};

use super::*;
use crate::broker::partition::{messages::Appended, validate::Limits};

const LOG_APPEND_TIME: u16 = 8;

fn with(limits: Limits) -> TestState {
    leader(Rules { limits, ..Rules::default() })
}

/// Appends at the time 5,000, and answers the header of what is written.
fn written(state: &mut TestState, batch: BytesMut) -> Result<(BatchHeader, Accepted), AppendError> {
    let mut effects = Vec::new();
    let accepted = state.append(batch, Origin::Client, Expected::default(), 5_000, &mut effects)?;
    let [Effect::Write(bytes, header)] = &effects[..] else { panic!("{effects:?}") };
    batch::check(bytes, header).expect("the checksum holds");
    assert_eq!(BatchHeader::parse(bytes).as_ref(), Ok(header));
    Ok((*header, accepted))
}

#[test]
fn where_the_log_gives_the_time_it_gives_that_of_the_append_whatever_the_producer_says() {
    let mut state = with(Limits { is_append_time: true, ..Limits::default() });
    for max_timestamp in [-1, 7, i64::MAX] {
        let (header, accepted) =
            written(&mut state, Spec { max_timestamp, ..Spec::default() }.build()).unwrap();
        assert!(header.attributes.is_log_append_time());
        assert_eq!(header.max_timestamp, 5_000);
        assert!(accepted.appended.is_append_time);
        assert_eq!(accepted.appended.timestamp_ms, 5_000);
    }
}

#[test]
fn the_repeat_of_a_batch_is_told_the_time_that_the_log_gave_it() {
    for (is_append_time, given) in [(true, 5_000), (false, 7)] {
        let mut state = with(Limits { is_append_time, ..Limits::default() });
        let spec = Spec { max_timestamp: 7, producer: (7, 0, 0), ..Spec::default() };
        let (_, first) = written(&mut state, spec.build()).unwrap();
        let (now_ms, mut effects) = (9_000, Vec::new());
        let repeat =
            state.append(spec.build(), Origin::Client, Expected::default(), now_ms, &mut effects);
        assert!(effects.is_empty());
        let repeat = repeat.unwrap().appended;
        assert_eq!(repeat, Appended { is_duplicate: true, ..first.appended });
        assert_eq!((repeat.timestamp_ms, repeat.is_append_time), (given, is_append_time));
    }
}

#[test]
fn a_producer_cannot_claim_the_logs_time_where_the_topic_has_its_own() {
    let mut state = with(Limits::default());
    let spec = Spec { max_timestamp: 7, attributes: LOG_APPEND_TIME, ..Spec::default() };
    let (header, accepted) = written(&mut state, spec.build()).unwrap();
    assert!(!header.attributes.is_log_append_time());
    assert_eq!((header.max_timestamp, accepted.appended.is_append_time), (7, false));
}

#[test]
fn a_timestamp_that_is_too_old_is_refused_and_none_at_all_is_not() {
    let mut state = with(Limits { behind_ms_max: 1_000, ..Limits::default() });
    let at = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new(timestamps[0]);
        for timestamp in timestamps {
            builder.push(RecordRef { timestamp: *timestamp, ..RecordRef::default() });
        }
        builder.build()
    };
    // Also where the first of the batch is young enough.
    for old in [&[3_999][..], &[4_000, 3_999]] {
        let refused = written(&mut state, at(old)).unwrap_err();
        assert!(matches!(refused, AppendError::Invalid(InvalidBatch::Old { .. })), "{refused:?}");
    }
    written(&mut state, at(&[4_000, 4_001])).unwrap();
    written(&mut state, at(&[-1])).unwrap();
}
