//! What the rules of producers say, one by one, and against a model that remembers everything.

use proptest::prelude::*;

use super::*;
use crate::broker::partition::messages::AbortedTransaction;

const ID: ProducerId = ProducerId(7);

fn batch(epoch: i16, first_sequence: i32, count: u32) -> Produced {
    let (last_delta, is_transactional) = (count - 1, false);
    Produced { producer: ID, epoch, first_sequence, last_delta, timestamp_ms: 0, is_transactional }
}

fn try_one(
    producers: &mut Producers,
    batch: &Produced,
    base: u64,
) -> Result<Verdict, SequenceError> {
    let mut trial = producers.trial(0);
    let verdict = trial.judge(batch, Offset(base));
    let tried = trial.finish();
    producers.accept(tried);
    verdict
}

#[test]
fn any_of_the_last_five_is_a_duplicate_and_the_sixth_is_not() {
    let mut producers = Producers::default();
    for n in 0..6 {
        assert_eq!(try_one(&mut producers, &batch(0, n, 1), n as u64 + 100), Ok(Verdict::New));
    }
    for n in 1..6 {
        let Ok(Verdict::Duplicate(old)) = try_one(&mut producers, &batch(0, n, 1), 999) else {
            panic!("sequence {n} is one of the last five")
        };
        assert_eq!(old.base_offset(), Offset(n as u64 + 100));
    }
    let refused = try_one(&mut producers, &batch(0, 0, 1), 999);
    assert_eq!(refused, Err(SequenceError::OutOfOrder { producer: ID, expected: 6, got: 0 }));
}

#[test]
fn a_batch_that_overlaps_a_known_one_without_being_it_is_out_of_order() {
    let mut producers = Producers::default();
    assert_eq!(try_one(&mut producers, &batch(0, 0, 10), 0), Ok(Verdict::New));
    for (first, count) in [(0, 9), (1, 9), (5, 10), (9, 1)] {
        assert!(try_one(&mut producers, &batch(0, first, count), 10).is_err(), "{first}+{count}");
    }
}

#[test]
fn sequences_wrap_to_zero() {
    let mut producers = Producers::default();
    assert_eq!(try_one(&mut producers, &batch(0, i32::MAX - 2, 3), 0), Ok(Verdict::New));
    assert_eq!(try_one(&mut producers, &batch(0, 0, 2), 3), Ok(Verdict::New));
    let crossing = batch(1, 0, 1);
    assert_eq!(try_one(&mut producers, &crossing, 5), Ok(Verdict::New));
    let mut producers = Producers::default();
    assert_eq!(try_one(&mut producers, &batch(0, i32::MAX - 1, 5), 0), Ok(Verdict::New));
    assert_eq!(producers.tail(ID).unwrap().last_sequence, 2);
    assert_eq!(try_one(&mut producers, &batch(0, 3, 1), 5), Ok(Verdict::New));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let mut producers = Producers::default();
    assert_eq!(try_one(&mut producers, &batch(3, 40, 1), 0), Ok(Verdict::New), "unknown: any");
    let refused = try_one(&mut producers, &batch(4, 41, 1), 1);
    assert_eq!(refused, Err(SequenceError::OutOfOrder { producer: ID, expected: 0, got: 41 }));
    assert_eq!(try_one(&mut producers, &batch(4, 0, 1), 1), Ok(Verdict::New));
    let refused = try_one(&mut producers, &batch(3, 41, 1), 2);
    assert_eq!(refused, Err(SequenceError::Fenced { producer: ID, current: 4, got: 3 }));
    let not_a_duplicate = try_one(&mut producers, &batch(3, 40, 1), 2);
    assert!(not_a_duplicate.is_err(), "the old epoch is fenced even for what it appended");
}

#[test]
fn nothing_of_a_request_is_taken_before_it_is_accepted() {
    let mut producers = Producers::default();
    let mut trial = producers.trial(0);
    assert_eq!(trial.judge(&batch(0, 0, 5), Offset(0)), Ok(Verdict::New));
    assert_eq!(trial.judge(&batch(0, 5, 5), Offset(5)), Ok(Verdict::New));
    assert!(matches!(trial.judge(&batch(0, 5, 5), Offset(10)), Ok(Verdict::Duplicate(_))));
    assert!(trial.judge(&batch(0, 11, 1), Offset(10)).is_err());
    drop(trial);
    assert!(producers.is_empty());
    assert_eq!(try_one(&mut producers, &batch(0, 0, 5), 0), Ok(Verdict::New));
}

#[test]
fn a_clock_that_is_set_on_makes_no_producer_expire_neither_in_a_life_nor_between_two() {
    let mut producers = Producers::default();
    try_one(&mut producers, &batch(0, 0, 1), 0).unwrap();
    producers.pass_over(1_000_000);
    assert_eq!(producers.expire(1_000_999, 1_000), 0);
    producers.wake(9_000_000);
    assert_eq!(producers.expire(9_000_999, 1_000), 0);
    // One that was set back makes none older.
    producers.wake(0);
    assert_eq!(producers.expire(9_000_999, 1_000), 0);
    assert_eq!(producers.expire(9_001_000, 1_000), 1);
}

#[test]
fn unused_producers_expire_except_those_owned_or_in_a_transaction() {
    let mut producers = Producers::default();
    let owned = ProducerId(ProducerId::OWNED_FIRST.0 + 5);
    for (producer, is_transactional) in [(ID, false), (owned, false), (ProducerId(8), true)] {
        let batch = Produced { producer, is_transactional, ..batch(0, 0, 1) };
        producers.follow(&batch, Offset(producers.len() as u64), 1_000);
    }
    assert_eq!(producers.expire(1_999, 1_000), 0);
    assert_eq!(producers.expire(2_000, 1_000), 1);
    assert!(producers.tail(ID).is_none());
    assert!(producers.tail(owned).is_some() && producers.tail(ProducerId(8)).is_some());
}

#[test]
fn a_client_that_draws_id_after_id_pushes_out_the_idle_and_nobody_else() {
    let mut producers = Producers::default();
    let one = |id: i64, at: u64| Produced { producer: ProducerId(id), ..batch(0, at as i32, 1) };
    let owned = ProducerId::OWNED_FIRST.0;
    producers.follow(&one(owned, 0), Offset(0), 0);
    let open = Produced { is_transactional: true, ..one(1, 0) };
    producers.follow(&open, Offset(1), 0);
    producers.follow(&one(2, 0), Offset(2), 0);
    for n in 0..PRODUCERS_MAX as i64 * 5 / 4 {
        producers.follow(&one(10 + n, 0), Offset(3 + n as u64), n);
        if n % 1_000 == 0 {
            // One that is in use is not pushed out by those that come and go.
            let sequence = n as u64 / 1_000 + 1;
            producers.follow(&one(3, sequence), Offset(3 + n as u64), n);
        }
        assert!(producers.len() <= PRODUCERS_MAX, "PROD-4");
    }
    let known = |id| producers.tail(ProducerId(id)).is_some();
    assert!(known(owned) && known(1) && known(3), "owned, open, and in use");
    assert!(!known(2), "idle since the beginning");
}

#[test]
fn a_marker_ends_the_open_transaction_and_fences_older_coordinators() {
    let mut producers = Producers::default();
    let in_transaction = Produced { is_transactional: true, ..batch(0, 0, 2) };
    assert_eq!(try_one(&mut producers, &in_transaction, 10), Ok(Verdict::New));
    assert_eq!(producers.first_open(), Some(Offset(10)));
    let outside = try_one(&mut producers, &batch(0, 2, 1), 12);
    assert_eq!(outside, Err(SequenceError::OutsideTransaction { producer: ID }));

    let marker = Marker { producer: ID, epoch: 0, coordinator_epoch: 5, is_commit: true };
    assert_eq!(producers.judge_marker(&marker), Ok(()));
    assert_eq!(producers.end_transaction(&marker, 0), Some(Offset(10)));
    assert_eq!(producers.first_open(), None);
    assert_eq!(producers.end_transaction(&marker, 0), None, "an empty transaction ends nothing");
    let stale = Marker { coordinator_epoch: 4, ..marker };
    assert!(producers.judge_marker(&stale).is_err());
    assert_eq!(try_one(&mut producers, &batch(0, 2, 1), 13), Ok(Verdict::New));
    let fenced = Marker { epoch: 1, ..marker };
    producers.end_transaction(&fenced, 0);
    assert!(try_one(&mut producers, &batch(0, 3, 1), 14).is_err(), "the marker bumped the epoch");
    assert_eq!(try_one(&mut producers, &batch(1, 0, 1), 14), Ok(Verdict::New));
}

#[test]
fn a_snapshot_has_kafkas_layout() {
    let mut producers = Producers::default();
    let timestamp_ms = 1_700_000_000_000;
    let produced = Produced { timestamp_ms, ..batch(2, 10, 5) };
    producers.follow(&produced, Offset(100), timestamp_ms);
    let bytes = producers.encode(&[]);
    assert_eq!(bytes.len(), 10 + 46);
    assert_eq!(bytes[..2], [0, 1], "version");
    assert_eq!(bytes[6..10], [0, 0, 0, 1], "entries");
    assert_eq!(bytes[10..18], 7_i64.to_be_bytes(), "producer id");
    assert_eq!(bytes[18..20], 2_i16.to_be_bytes(), "epoch");
    assert_eq!(bytes[20..24], 14_i32.to_be_bytes(), "last sequence");
    assert_eq!(bytes[24..32], 104_i64.to_be_bytes(), "last offset");
    assert_eq!(bytes[32..36], 4_i32.to_be_bytes(), "offset delta");
    assert_eq!(bytes[36..44], timestamp_ms.to_be_bytes(), "timestamp");
    assert_eq!(bytes[44..48], (-1_i32).to_be_bytes(), "coordinator epoch");
    assert_eq!(bytes[48..56], (-1_i64).to_be_bytes(), "no open transaction");
    assert_eq!(Producers::decode(&bytes).unwrap(), (producers, Vec::new()));
}

#[test]
fn a_snapshot_keeps_the_time_of_each_batch_and_when_its_producer_was_used() {
    let mut producers = Producers::default();
    for (n, timestamp_ms) in [(0, 30), (1, 20), (2, 10)] {
        let produced = Produced { timestamp_ms, ..batch(0, n, 1) };
        producers.follow(&produced, Offset(n as u64), 500 + i64::from(n));
    }
    // Those that say when they were used by their last batch, and that have none.
    for (id, epoch) in [(6, 0), (8, 0)] {
        let produced =
            Produced { producer: ProducerId(id), timestamp_ms: 600, ..batch(epoch, 0, 1) };
        producers.follow(&produced, Offset(3), 600);
    }
    let (producer, epoch) = (ProducerId(9), 0);
    let marker = Marker { producer, epoch, coordinator_epoch: 1, is_commit: true };
    producers.end_transaction(&marker, 700);
    let bytes = producers.encode(&[]);
    assert_eq!(bytes.len(), 10 + (1 + 4 + 1 + 1) * 46);
    let (mut restored, _) = Producers::decode(&bytes).unwrap();
    assert_eq!(restored, producers);
    for (n, timestamp_ms) in [(0, 30), (1, 20), (2, 10)] {
        let verdict = try_one(&mut restored, &batch(0, n, 1), 999);
        assert!(matches!(verdict, Ok(Verdict::Duplicate(old)) if old.timestamp_ms == timestamp_ms));
    }
}

#[test]
fn aborted_transactions_go_behind_the_entries_in_the_bytes_of_a_txnindex() {
    let mut producers = Producers::default();
    producers.follow(&batch(2, 10, 5), Offset(100), 0);
    let aborted = |first, last| AbortedTransaction {
        producer: ProducerId(9),
        first_offset: Offset(first),
        last_offset: Offset(last),
    };
    let aborted = vec![aborted(20, 40), aborted(50, 60)];
    let bytes = producers.encode(&aborted);
    assert_eq!(bytes.len(), 10 + 46 + 4 + 2 * 34);
    assert_eq!(bytes[60..70], [0, 0, 0, 0, 0, 0, 0, 0, 0, 9], "version and producer id");
    assert_eq!(Producers::decode(&bytes).unwrap(), (producers, aborted));
    for cut in 57..bytes.len() {
        let mut cut = bytes[..cut].to_vec();
        let crc = flumen_runtime::codec::crc32c(&[&cut[6..]]).to_be_bytes();
        cut[2..6].copy_from_slice(&crc);
        assert!(matches!(Producers::decode(&cut), Err(SnapshotError::Length(_))));
    }
}

#[test]
fn a_damaged_or_newer_snapshot_is_refused() {
    let mut producers = Producers::default();
    producers.follow(&batch(2, 10, 5), Offset(100), 0);
    let good = producers.encode(&[]);
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        assert!(Producers::decode(&bad).is_err(), "bit flip at {at}");
        assert!(Producers::decode(&good[..at]).is_err(), "cut at {at}");
    }
    let mut newer = good.to_vec();
    newer[1] = 2;
    assert_eq!(Producers::decode(&newer), Err(SnapshotError::Version(2)));
}

// ---- Against a model that remembers everything -----------------------------------------------------

/// All that one producer ever appended; the rules read off it in the plainest way.
#[derive(Default)]
struct Model {
    appended: Vec<(Produced, u64)>,
}

impl Model {
    fn expect(&self, batch: &Produced) -> Result<Option<u64>, ()> {
        let Some((last, _)) = self.appended.last() else { return Ok(None) };
        if batch.epoch < last.epoch {
            return Err(());
        }
        let of_epoch: Vec<_> =
            self.appended.iter().filter(|(old, _)| old.epoch == batch.epoch).collect();
        if let Some((_, base)) = of_epoch.iter().rev().take(5).find(|(old, _)| old == batch) {
            return Ok(Some(*base));
        }
        let next = match of_epoch.last() {
            Some((last, _)) => {
                (i64::from(last.first_sequence) + i64::from(last.last_delta) + 1) % (1 << 31)
            }
            None => 0,
        };
        if i64::from(batch.first_sequence) == next { Ok(None) } else { Err(()) }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Next { count: u32 },
    Retry { back: usize },
    Gap { by: u32 },
    Epoch { delta: i16, sequence: i32 },
    Follow { count: u32 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..5_u32).prop_map(|count| Action::Next { count }),
        4 => (0..8_usize).prop_map(|back| Action::Retry { back }),
        1 => (1..9_u32).prop_map(|by| Action::Gap { by }),
        1 => (-1..2_i16, 0..2_i32).prop_map(|(delta, sequence)| Action::Epoch { delta, sequence }),
        1 => (1..5_u32).prop_map(|count| Action::Follow { count }),
    ]
}

proptest! {
    #[test]
    fn verdicts_are_the_models(
        actions in prop::collection::vec(action(), 1..60),
        start in prop_oneof![Just(0), Just(i32::MAX - 6), 0..i32::MAX],
    ) {
        let mut producers = Producers::default();
        let mut model = Model::default();
        let mut end = 0;
        for action in actions {
            let tail = producers.tail(ID);
            let epoch = tail.map_or(0, |tail| tail.epoch);
            let next = tail.map_or(start, |tail| sequence_after(tail.last_sequence, 1));
            let candidate = match action {
                Action::Next { count } | Action::Follow { count } => batch(epoch, next, count),
                Action::Retry { back } => {
                    let Some(at) = model.appended.len().checked_sub(back + 1) else { continue };
                    model.appended[at].0
                }
                Action::Gap { by } => batch(epoch, sequence_after(next, by), 1),
                Action::Epoch { delta, sequence } => batch((epoch + delta).max(0), sequence, 1),
            };
            let expected = model.expect(&candidate);
            let is_new = if let Action::Follow { .. } = action {
                producers.follow(&candidate, Offset(end), 0);
                true
            } else {
                let verdict = try_one(&mut producers, &candidate, end);
                let got = verdict.map_err(|_| ()).map(|verdict| match verdict {
                    Verdict::New => None,
                    Verdict::Duplicate(old) => Some(old.base_offset().0),
                });
                prop_assert_eq!(got, expected);
                got == Ok(None)
            };
            if is_new {
                model.appended.push((candidate, end));
                end += u64::from(candidate.last_delta) + 1;
            }
            if let Some(state) = producers.states.get(&ID) {
                prop_assert!(state.recent.windows(2).all(|pair| {
                    pair[1].last_sequence
                        == sequence_after(pair[0].last_sequence, pair[1].last_delta + 1)
                }), "PROD-2");
                prop_assert!(state.recent.len() <= RECENT_MAX, "PROD-1");
            }
        }
    }

    #[test]
    fn a_snapshot_and_the_replay_of_the_rest_continue_as_if_nothing_had_happened(
        counts in prop::collection::vec(1..4_u32, 1..20),
        cut in 0..20_usize,
    ) {
        let (mut whole, mut sequence, mut end) = (Producers::default(), 0, 0);
        let cut = cut.min(counts.len());
        let mut kept = None;
        let mut batches = Vec::new();
        for (n, count) in counts.into_iter().enumerate() {
            if n == cut {
                kept = Some(whole.encode(&[]));
            }
            let batch = batch(0, sequence, count);
            prop_assert_eq!(try_one(&mut whole, &batch, end), Ok(Verdict::New));
            batches.push((batch, end));
            sequence = sequence_after(sequence, count);
            end += u64::from(count);
        }
        let mut restored = Producers::decode(&kept.unwrap_or_else(|| whole.encode(&[]))).unwrap().0;
        // Replay may begin before the snapshot: what it holds already must change nothing.
        for (batch, base) in &batches[cut.saturating_sub(1)..] {
            restored.follow(batch, Offset(*base), 0);
        }
        prop_assert_eq!(restored.tail(ID), whole.tail(ID));
        for (batch, base) in batches.iter().rev().take(RECENT_MAX) {
            let Ok(Verdict::Duplicate(old)) = try_one(&mut restored, batch, end) else {
                panic!("the last five batches are known after a restart")
            };
            prop_assert_eq!(old.base_offset(), Offset(*base));
        }
        prop_assert_eq!(try_one(&mut restored, &batch(0, sequence, 1), end), Ok(Verdict::New));
    }
}
