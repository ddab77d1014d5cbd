//! What a partition decides, one by one, and in any order against a plain model.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::broker::{
    names::{Isolation, ProducerId},
    partition::{
        messages::{AppendError, Fetch, InvalidBatch, Origin, Portion},
        testing::{CONTROL, DELETE_HORIZON, Spec, TRANSACTIONAL, marker, reseal},
    },
};

mod times;

type TestState = State<u32, u32>;
type TestEffects = Effects<u32, u32>;

fn leader(rules: Rules) -> TestState {
    State::new(rules, Recovered::default(), Role::Leader, LeaderEpoch(3))
}

fn append(state: &mut TestState, spec: Spec) -> Result<Accepted, AppendError> {
    append_bytes(state, spec.build(), Origin::Client)
}

fn append_bytes(
    state: &mut TestState,
    batches: BytesMut,
    origin: Origin,
) -> Result<Accepted, AppendError> {
    state.append(batches, origin, Expected::default(), 0, &mut Vec::new())
}

fn progress(state: &mut TestState, written: u64, durable: u64) -> TestEffects {
    let mut effects = Vec::new();
    state.on_progress(Offset(written), Offset(durable), &mut effects);
    effects
}

fn releases(effects: &TestEffects) -> Vec<u32> {
    let released = |effect: &Effect<u32, u32>| match effect {
        Effect::Release(answer) => Some(*answer),
        _ => None,
    };
    effects.iter().filter_map(released).collect()
}

#[test]
fn offsets_and_epoch_are_stamped_and_the_checksum_still_holds() {
    let mut state = leader(Rules::default());
    let mut effects = Vec::new();
    let mut two = Spec { count: 3, ..Spec::default() }.build();
    two.extend_from_slice(&Spec { count: 2, base_offset: 77, ..Spec::default() }.build());
    let accepted = state.append(two, Origin::Client, Expected::default(), 0, &mut effects).unwrap();
    assert_eq!(accepted.appended.base_offset, Offset(0));
    assert_eq!(accepted.appended.last_offset, Offset(4));
    assert_eq!(accepted.end, Offset(5));
    let bases: Vec<_> = effects
        .iter()
        .map(|effect| {
            let Effect::Write(batch, header) = effect else { panic!("{effect:?}") };
            let parsed = BatchHeader::parse(batch).unwrap();
            assert_eq!(&parsed, header, "the header goes with the stamped bytes");
            flumen_runtime::batch::check(batch, header).unwrap();
            assert_eq!(parsed.leader_epoch, 3);
            parsed.base_offset.0
        })
        .collect();
    assert_eq!(bases, [0, 3]);
}

#[test]
fn an_ack_waits_for_the_sync_and_on_a_lazy_topic_for_the_write() {
    for (is_lazy, expected_at_write) in [(false, vec![0]), (true, vec![0, 1, 2])] {
        let mut state = leader(Rules { is_lazy, ..Rules::default() });
        let mut effects = Vec::new();
        for (answer, acks) in [Acks::None, Acks::Leader, Acks::InSync].into_iter().enumerate() {
            let accepted = append(&mut state, Spec::default()).unwrap();
            state.hold(acks, accepted.end, answer as u32, &mut effects);
        }
        assert_eq!(releases(&effects), [0], "acks=0 waits for nothing");
        effects.extend(progress(&mut state, 3, 0));
        assert_eq!(releases(&effects), expected_at_write);
        assert_eq!(state.marks().high_watermark, Offset(if is_lazy { 3 } else { 0 }));
        effects.extend(progress(&mut state, 3, 2));
        effects.extend(progress(&mut state, 3, 3));
        assert_eq!(releases(&effects), [0, 1, 2]);
    }
}

#[test]
fn the_ack_of_a_repeated_batch_waits_for_the_first_one_to_be_durable() {
    let mut state = leader(Rules::default());
    let spec = Spec { producer: (7, 0, 0), ..Spec::default() };
    let first = append(&mut state, spec).unwrap();
    let again = append(&mut state, spec).unwrap();
    assert!(again.appended.is_duplicate && !first.appended.is_duplicate);
    assert_eq!(again.appended.base_offset, first.appended.base_offset);
    assert_eq!(state.marks().log_end, Offset(1), "nothing was written twice");
    let mut effects = Vec::new();
    state.hold(Acks::InSync, again.end, 9, &mut effects);
    assert_eq!(releases(&effects), [0_u32; 0], "an ack before the sync would be a lie");
    assert_eq!(releases(&progress(&mut state, 1, 1)), [9]);
}

#[test]
fn a_request_with_one_bad_batch_leaves_no_trace() {
    let mut state = leader(Rules::default());
    let good = Spec { producer: (7, 0, 0), ..Spec::default() };
    let mut effects = Vec::new();
    let mut batches = good.build();
    batches.extend_from_slice(&Spec { producer: (7, 0, 5), ..Spec::default() }.build());
    let refused = state.append(batches, Origin::Client, Expected::default(), 0, &mut effects);
    assert!(matches!(refused, Err(AppendError::Sequence(_))), "{refused:?}");
    assert!(effects.is_empty() && state.producers().is_empty());
    assert_eq!(state.marks().log_end, Offset(0));
    assert!(append(&mut state, good).is_ok());
}

#[test]
fn what_is_not_valid_is_refused_by_name() {
    let rules = Rules {
        limits: Limits { batch_bytes_max: 200, ahead_ms_max: 1_000, ..Limits::default() },
        ..Rules::default()
    };
    let refuse = |batches: BytesMut, origin| {
        let mut state = leader(rules);
        let error = append_bytes(&mut state, batches, origin).unwrap_err();
        assert_eq!(state.marks().log_end, Offset(0));
        error
    };
    let client = |spec: Spec| refuse(spec.build(), Origin::Client);
    let spec = Spec::default();

    let mut flipped = spec.build();
    flipped[65] ^= 1;
    assert!(matches!(refuse(flipped, Origin::Client), AppendError::Corrupt { at: 0, .. }));
    let mut cut = spec.build();
    cut.truncate(70);
    assert!(matches!(refuse(cut, Origin::Client), AppendError::Corrupt { .. }));
    assert_eq!(refuse(BytesMut::new(), Origin::Client), AppendError::Invalid(InvalidBatch::Empty));
    let too_large = client(Spec { payload: 140, ..spec });
    assert_eq!(too_large, AppendError::TooLarge { bytes: 201, bytes_max: 200 });
    let mut miscounted = Spec { count: 3, ..spec }.build();
    miscounted[60] = 2;
    reseal(&mut miscounted);
    assert!(matches!(
        refuse(miscounted, Origin::Client),
        AppendError::Corrupt { .. } | AppendError::Invalid(InvalidBatch::Count { .. })
    ));
    let control = Spec { attributes: CONTROL, producer: (1, 0, 0), ..spec };
    assert_eq!(client(control), AppendError::Invalid(InvalidBatch::Control));
    assert_eq!(
        refuse(spec.build(), Origin::Coordinator),
        AppendError::Invalid(InvalidBatch::Control)
    );
    let dated = Spec { attributes: DELETE_HORIZON, ..spec };
    assert_eq!(client(dated), AppendError::Invalid(InvalidBatch::DeleteHorizon));
    for producer in [(7, 0, -1), (7, -1, 0), (-2, 0, 0)] {
        let error = client(Spec { producer, ..spec });
        assert!(
            matches!(error, AppendError::Invalid(InvalidBatch::Producer { .. })),
            "{producer:?}: {error}"
        );
    }
    let ahead = client(Spec { max_timestamp: 1_001, ..spec });
    assert!(matches!(ahead, AppendError::Invalid(InvalidBatch::Timestamp { .. })));
    let nameless = client(Spec { attributes: TRANSACTIONAL, ..spec });
    assert_eq!(nameless, AppendError::Invalid(InvalidBatch::Transactional));
}

#[test]
fn an_append_at_an_end_is_refused_once_another_has_appended() {
    let mut state = leader(Rules::default());
    let append_at = |state: &mut TestState, end: u64| {
        let expected = Expected { epoch: None, at: Some(Offset(end)) };
        let batch = Spec { count: 2, ..Spec::default() }.build();
        state.append(batch, Origin::Client, expected, 0, &mut Vec::new())
    };
    assert_eq!(append_at(&mut state, 0).unwrap().end, Offset(2));
    let refused = append_at(&mut state, 0).unwrap_err();
    assert_eq!(refused, AppendError::NotAtEnd { at: Offset(0), end: Offset(2) });
    assert!(!refused.is_retryable());
    assert!(append_at(&mut state, 3).is_err(), "beyond the end");
    assert_eq!(append_at(&mut state, 2).unwrap().end, Offset(4), "nothing had changed");
}

#[test]
fn an_append_at_an_end_that_had_landed_is_answered_when_it_comes_again() {
    let mut state = leader(Rules::default());
    let append_at = |state: &mut TestState, end: u64, sequence| {
        let expected = Expected { epoch: None, at: Some(Offset(end)) };
        let batch = Spec { count: 2, producer: (7, 0, sequence), ..Spec::default() }.build();
        state.append(batch, Origin::Client, expected, 0, &mut Vec::new())
    };
    append_at(&mut state, 0, 0).unwrap();
    let again = append_at(&mut state, 0, 0).unwrap();
    assert!(again.appended.is_duplicate);
    assert_eq!((again.appended.last_offset, state.marks().log_end), (Offset(1), Offset(2)));
    append(&mut state, Spec::default()).unwrap();
    let refused = append_at(&mut state, 2, 2).unwrap_err();
    assert_eq!(refused, AppendError::NotAtEnd { at: Offset(2), end: Offset(3) });
    assert_eq!(append_at(&mut state, 3, 2).unwrap().end, Offset(5), "nothing had changed");
}

#[test]
fn of_a_lazy_topic_what_a_power_cut_may_take_is_shown_on_demand_only_once_it_is_synced() {
    let mut state = leader(Rules { is_lazy: true, ..Rules::default() });
    let mut effects = Vec::new();
    let durable = Fetch { isolation: Isolation::Durable, ..fetch(0, 500) };
    state.fetch(durable, 1, Duration::ZERO, &mut effects);
    let batch = Spec::default().build().len();
    for _ in 0..3 {
        append(&mut state, Spec::default()).unwrap();
    }
    assert!(progress(&mut state, 3, 0).is_empty());
    assert_eq!(state.visible_end(Isolation::Uncommitted), Offset(3));
    assert_eq!(state.visible_end(Isolation::Durable), Offset(0));
    assert_eq!(answers(&progress(&mut state, 3, 2)), [(1, 2 * batch)]);
}

#[test]
fn another_epoch_and_a_follower_refuse_appends() {
    let mut state = leader(Rules::default());
    let try_epoch = |state: &mut TestState, epoch| {
        let batch = Spec::default().build();
        state.append(
            batch,
            Origin::Client,
            Expected { epoch: Some(LeaderEpoch(epoch)), at: None },
            0,
            &mut Vec::new(),
        )
    };
    assert!(matches!(try_epoch(&mut state, 2), Err(AppendError::NotLeader(_))));
    assert!(matches!(try_epoch(&mut state, 4), Err(AppendError::NotLeader(_))));
    let accepted = try_epoch(&mut state, 3).unwrap();
    state.hold(Acks::InSync, accepted.end, 1, &mut Vec::new());

    assert!(state.assume(Role::Leader, LeaderEpoch(2), &mut Vec::new()).is_err(), "an old epoch");
    assert!(
        state.assume(Role::Follower, LeaderEpoch(3), &mut Vec::new()).is_err(),
        "an epoch has one leader"
    );
    let dropped = state.assume(Role::Follower, LeaderEpoch(4), &mut Vec::new());
    assert_eq!(dropped, Ok(vec![1]), "its ack is given up");
    assert!(matches!(try_epoch(&mut state, 4), Err(AppendError::NotLeader(_))));
}

#[test]
fn a_follower_takes_what_continues_its_log_and_trusts_no_high_watermark_past_its_sync() {
    let mut state: TestState =
        State::new(Rules::default(), Recovered::default(), Role::Follower, LeaderEpoch(5));
    let mut take = |spec: Spec, epoch, high_watermark| {
        let batch = spec.build().freeze();
        let (epoch, mark) = (LeaderEpoch(epoch), Offset(high_watermark));
        let taken = state.append_as_follower(&batch, epoch, mark, 0, &mut Vec::new());
        (taken.map(|accepted| accepted.end.0), state.marks().high_watermark.0)
    };
    let first = Spec { count: 3, epoch: 4, ..Spec::default() };
    assert_eq!(take(first, 5, 2), (Ok(3), 0), "not synced: not committed here");
    assert!(take(first, 5, 2).0.is_err(), "a repeat does not continue the log");
    let next = Spec { base_offset: 3, epoch: 5, ..Spec::default() };
    assert!(take(next, 4, 2).0.is_err(), "sent by an old leader");
    assert!(take(Spec { epoch: 6, ..next }, 5, 2).0.is_err(), "of an epoch yet to come");
    assert_eq!(take(next, 5, 2).0, Ok(4));
    assert!(releases(&progress(&mut state, 4, 4)).is_empty());
    assert_eq!(state.marks().high_watermark, Offset(2), "as far as the leader says");
    let refused = append(&mut state, Spec::default());
    assert!(matches!(refused, Err(AppendError::NotLeader(_))));
}

fn fetch(offset: u64, wait_ms: u64) -> Fetch {
    Fetch::from(Offset(offset)).wait(Duration::from_millis(wait_ms))
}

fn answers(effects: &TestEffects) -> Vec<(u32, usize)> {
    let answered = |effect: &Effect<u32, u32>| match effect {
        Effect::Answer(reader, fetched) => Some((*reader, fetched.as_ref().unwrap().bytes())),
        _ => None,
    };
    effects.iter().filter_map(answered).collect()
}

#[test]
fn a_parked_fetch_is_answered_with_the_very_bytes_that_were_appended() {
    let mut state = leader(Rules::default());
    let mut effects = Vec::new();
    state.fetch(fetch(0, 500), 1, Duration::ZERO, &mut effects);
    assert!(effects.is_empty());
    let batch = Spec::default().build();
    let at = batch.as_ptr();
    state.append(batch, Origin::Client, Expected::default(), 0, &mut effects).unwrap();
    assert!(answers(&effects).is_empty());
    assert!(answers(&progress(&mut state, 1, 0)).is_empty(), "not committed: not visible");
    let effects = progress(&mut state, 1, 1);
    let [Effect::Answer(1, Ok(fetched))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(fetched.batches[0].as_ptr(), at, "no copy");
    assert_eq!(fetched.marks.high_watermark, Offset(1));
}

#[test]
fn a_parked_fetch_is_answered_before_the_ack_of_what_it_waited_for() {
    let mut state = leader(Rules::default());
    state.fetch(fetch(0, 500), 1, Duration::ZERO, &mut Vec::new());
    let accepted = append(&mut state, Spec::default()).unwrap();
    state.hold(Acks::InSync, accepted.end, 2, &mut Vec::new());
    let effects = progress(&mut state, 1, 1);
    assert!(matches!(effects[..], [Effect::Answer(1, Ok(_)), Effect::Release(2)]), "{effects:?}");
}

#[test]
fn a_parked_fetch_waits_for_its_bytes_or_its_deadline() {
    let mut state = leader(Rules::default());
    let mut effects = Vec::new();
    let wants_150 = Fetch { bytes_min: 150, ..fetch(0, 500) };
    state.fetch(wants_150, 1, Duration::ZERO, &mut effects);
    state.fetch(Fetch { bytes_min: 1_000, ..wants_150 }, 2, Duration::ZERO, &mut effects);
    for end in 1..=3 {
        append(&mut state, Spec::default()).unwrap(); // 71 bytes
        effects.extend(progress(&mut state, end, end));
    }
    assert_eq!(answers(&effects), [(1, 3 * 71)]);
    assert_eq!(state.next_deadline(), Some(Duration::from_millis(500)));
    let mut effects = Vec::new();
    state.on_deadline(Duration::from_millis(499), &mut effects);
    assert!(effects.is_empty());
    state.on_deadline(Duration::from_millis(500), &mut effects);
    assert_eq!(answers(&effects), [(2, 3 * 71)], "with what there is");
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn a_fetch_that_would_not_wait_or_is_out_of_range_is_answered_at_once() {
    let mut state = leader(Rules::default());
    let mut effects = Vec::new();
    state.fetch(fetch(0, 0), 1, Duration::ZERO, &mut effects);
    state.fetch(Fetch { bytes_min: 0, ..fetch(0, 500) }, 2, Duration::ZERO, &mut effects);
    assert_eq!(answers(&effects), [(1, 0), (2, 0)]);
    effects.clear();
    state.fetch(fetch(1, 500), 3, Duration::ZERO, &mut effects);
    assert!(matches!(effects[..], [Effect::Answer(3, Err(FetchError::OutOfRange { .. }))]));
}

#[test]
fn what_is_not_in_memory_is_read_from_disk_up_to_the_mark() {
    let mut state = leader(Rules::default());
    append(&mut state, Spec { count: 4, ..Spec::default() }).unwrap();
    progress(&mut state, 4, 4);
    append(&mut state, Spec::default()).unwrap();
    let mut effects = Vec::new();
    state.fetch(fetch(2, 500), 1, Duration::ZERO, &mut effects);
    let [Effect::Read(1, range)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((range.offset, range.end), (Offset(2), Offset(4)));
}

#[test]
fn parked_fetches_of_a_trimmed_offset_learn_it() {
    let mut state = leader(Rules::default());
    append(&mut state, Spec { count: 4, ..Spec::default() }).unwrap();
    let mut effects = Vec::new();
    state.fetch(fetch(2, 500), 1, Duration::ZERO, &mut effects);
    progress(&mut state, 4, 0);
    state.on_progress(Offset(4), Offset(4), &mut Vec::new());
    let mut effects = Vec::new();
    state.fetch(fetch(4, 500), 2, Duration::ZERO, &mut effects);
    state.on_log_start(Offset(4));
    state.on_deadline(Duration::from_secs(1), &mut effects);
    assert_eq!(answers(&effects), [(2, 0)]);
}

#[test]
fn read_committed_stops_at_the_first_undecided_record_and_names_what_was_aborted() {
    let mut state = leader(Rules::default());
    append(&mut state, Spec::default()).unwrap();
    let in_transaction = |sequence| Spec {
        attributes: TRANSACTIONAL,
        producer: (7, 0, sequence),
        ..Spec::default()
    };
    append(&mut state, in_transaction(0)).unwrap();
    append(&mut state, in_transaction(1)).unwrap();
    append(&mut state, Spec::default()).unwrap();
    progress(&mut state, 4, 4);
    assert_eq!(state.marks().last_stable, Offset(1));
    assert_eq!(state.visible_end(Isolation::Committed), Offset(1));

    let accepted = append_bytes(&mut state, marker((7, 0), false, 2), Origin::Coordinator).unwrap();
    assert_eq!(accepted.end, Offset(5));
    assert_eq!(state.marks().last_stable, Offset(1), "the marker is not committed yet");
    progress(&mut state, 5, 5);
    assert_eq!(state.marks().last_stable, Offset(5));

    let mut effects = Vec::new();
    let committed = Fetch { isolation: Isolation::Committed, ..fetch(0, 0) };
    state.fetch(committed, 1, Duration::ZERO, &mut effects);
    let [Effect::Read(_, range)] = &effects[..] else { panic!("{effects:?}") };
    let [aborted] = range.aborted[..] else { panic!("{range:?}") };
    assert_eq!(aborted.producer, ProducerId(7));
    assert_eq!((aborted.first_offset, aborted.last_offset), (Offset(1), Offset(4)));
    let stale = append_bytes(&mut state, marker((7, 0), true, 1), Origin::Coordinator);
    assert!(matches!(stale, Err(AppendError::Sequence(_))), "a superseded coordinator");
}

#[test]
fn a_topic_that_stops_being_lazy_keeps_what_it_had_committed() {
    let mut state = leader(Rules { is_lazy: true, ..Rules::default() });
    append(&mut state, Spec::default()).unwrap();
    progress(&mut state, 1, 0);
    assert_eq!(state.marks().high_watermark, Offset(1));
    state.configure(Rules::default(), &mut Vec::new());
    append(&mut state, Spec::default()).unwrap();
    progress(&mut state, 2, 0);
    assert_eq!(state.marks().high_watermark, Offset(1));
    progress(&mut state, 2, 2);
    assert_eq!(state.marks().high_watermark, Offset(2));
}

#[test]
fn who_stops_serving_gives_up_everyone_who_waits() {
    let mut state = leader(Rules::default());
    let accepted = append(&mut state, Spec::default()).unwrap();
    let mut effects = Vec::new();
    state.hold(Acks::Leader, accepted.end, 1, &mut effects);
    state.hold(Acks::InSync, accepted.end, 2, &mut effects);
    state.fetch(fetch(0, 500), 3, Duration::ZERO, &mut effects);
    let (answers, parked) = state.dismiss();
    assert_eq!(answers, [1, 2]);
    assert_eq!(parked.len(), 1);
    assert!(effects.is_empty());
}

// ---- Any order of things, against a plain model -----------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Append { count: u32, acks: u8 },
    Retry { back: usize },
    Write,
    Sync,
    Fetch { offset: u64, wait: bool, min: usize, max: usize, portion: Portion },
    Elapse { ms: u64 },
    Trim,
    Tick,
}

fn portion() -> impl Strategy<Value = Portion> {
    prop::sample::select(vec![Portion::FirstWhole, Portion::Strict, Portion::InMemory])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u32, 0..3_u8).prop_map(|(count, acks)| Step::Append { count, acks }),
        2 => (0..6_usize).prop_map(|back| Step::Retry { back }),
        4 => Just(Step::Write),
        4 => Just(Step::Sync),
        5 => (0..30_u64, any::<bool>(), 0..300_usize, 1..300_usize, portion()).prop_map(
            |(offset, wait, min, max, portion)| Step::Fetch { offset, wait, min, max, portion }
        ),
        1 => (0..300_u64).prop_map(|ms| Step::Elapse { ms }),
        1 => Just(Step::Trim),
        1 => Just(Step::Tick),
    ]
}

/// What the log holds, and who was promised what.
#[derive(Default)]
struct World {
    batches: Vec<(u64, u64, Bytes)>,
    written: u64,
    durable: u64,
    now: Duration,
    acks: Vec<(Acks, u64)>,
    released: Vec<u32>,
    fetches: Vec<(Fetch, Duration)>,
    answered: Vec<u32>,
}

impl World {
    fn safe(&self, rules: &Rules) -> u64 {
        if rules.is_lazy { self.written } else { self.durable }
    }

    fn apply(&mut self, rules: &Rules, state: &TestState, effects: TestEffects) {
        for effect in effects {
            match effect {
                Effect::Write(batch, header) => {
                    let end = self.batches.last().map_or(0, |(_, end, _)| *end);
                    assert_eq!(header.base_offset.0, end, "PART-9");
                    self.batches.push((end, header.next_offset().0, batch));
                }
                Effect::Release(answer) => {
                    let (acks, end) = self.acks[answer as usize];
                    assert!(acks == Acks::None || end <= self.safe(rules), "PART-7: too early");
                    assert!(!self.released.contains(&answer), "once");
                    self.released.push(answer);
                }
                Effect::Answer(reader, fetched) => {
                    self.answered.push(reader);
                    let (fetch, deadline) = self.fetches[reader as usize];
                    let Ok(fetched) = fetched else {
                        let marks = state.marks();
                        let is_in =
                            marks.log_start <= fetch.offset && fetch.offset <= marks.log_end;
                        assert!(!is_in, "refused though it is in the log");
                        continue;
                    };
                    let mark = self.safe(rules);
                    let expected: Vec<&Bytes> = self
                        .batches
                        .iter()
                        .filter(|(_, end, _)| *end > fetch.offset.0 && *end <= mark)
                        .map(|(_, _, batch)| batch)
                        .collect();
                    let given = &fetched.batches;
                    assert!(given.len() <= expected.len(), "PART-8");
                    assert!(given.iter().eq(expected[..given.len()].iter().copied()), "PART-8");
                    let (bytes, max) = (fetched.bytes(), fetch.bytes_max);
                    let is_strict = fetch.portion != Portion::FirstWhole;
                    let may_exceed = given.len() == 1 && !is_strict;
                    assert!(may_exceed || bytes <= max, "more than it may");
                    let is_cut = given.len() < expected.len();
                    let withheld = fetched.withheld;
                    if withheld > 0 {
                        assert!(is_strict && given.is_empty() && withheld > max, "it fits");
                        assert_eq!(withheld, expected[0].len());
                    }
                    let may_be_on_disk = fetch.portion == Portion::InMemory;
                    let is_told = !given.is_empty() || withheld > 0 || may_be_on_disk;
                    assert!(!is_cut || is_told, "there was something to give");
                    let is_over = fetch.wait.is_zero() || self.now >= deadline;
                    assert!(is_over || is_cut || bytes >= fetch.bytes_min.min(max), "too early");
                }
                Effect::Read(reader, range) => {
                    self.answered.push(reader);
                    let (fetch, _) = self.fetches[reader as usize];
                    assert!(fetch.portion != Portion::InMemory, "it has no room for what is read");
                    assert_eq!(range.is_strict, fetch.portion == Portion::Strict);
                    assert_eq!(range.offset, fetch.offset);
                    assert!(range.offset < range.end && range.end.0 <= self.safe(rules), "PART-8");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn in_any_order_acks_keep_their_promise_and_readers_see_the_log(
        is_lazy in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let rules = Rules { is_lazy, ..Rules::default() };
        let mut state = leader(rules);
        let mut world = World::default();
        let mut sequences: Vec<(i32, u32, u64)> = Vec::new();
        for step in steps {
            let mut effects = Vec::new();
            let end = state.marks().log_end.0;
            match step {
                Step::Append { count, acks } => {
                    let acks = [Acks::None, Acks::Leader, Acks::InSync][usize::from(acks)];
                    let sequence = end as i32;
                    let spec = Spec { count, producer: (7, 0, sequence), ..Spec::default() };
                    let accepted =
                        state.append(spec.build(), Origin::Client, Expected::default(), 0, &mut effects).unwrap();
                    prop_assert_eq!(accepted.appended.base_offset.0, end);
                    sequences.push((sequence, count, end));
                    world.acks.push((acks, accepted.end.0));
                    let answer = world.acks.len() as u32 - 1;
                    state.hold(acks, accepted.end, answer, &mut effects);
                }
                Step::Retry { back } => {
                    let Some(at) = sequences.len().checked_sub(back + 1) else { continue };
                    let (sequence, count, base) = sequences[at];
                    let spec = Spec { count, producer: (7, 0, sequence), ..Spec::default() };
                    let again = state.append(spec.build(), Origin::Client, Expected::default(), 0, &mut effects);
                    prop_assert_eq!(again.is_ok(), back < 5, "the window is five");
                    prop_assert!(effects.is_empty(), "a repeat writes nothing");
                    if let Ok(accepted) = again {
                        prop_assert_eq!(accepted.appended.base_offset.0, base);
                        world.acks.push((Acks::InSync, accepted.end.0));
                        let answer = world.acks.len() as u32 - 1;
                        state.hold(Acks::InSync, accepted.end, answer, &mut effects);
                    }
                }
                Step::Write | Step::Sync => {
                    match step {
                        Step::Write => world.written = end,
                        _ => world.durable = world.written,
                    }
                    let (written, durable) = (Offset(world.written), Offset(world.durable));
                    state.on_progress(written, durable, &mut effects);
                }
                Step::Fetch { offset, wait, min, max, portion } => {
                    let wait = Duration::from_millis(if wait { 500 } else { 0 });
                    let (offset, isolation) = (Offset(offset), Isolation::Uncommitted);
                    let fetch = Fetch {
                        bytes_min: min,
                        bytes_max: max,
                        portion,
                        wait,
                        isolation,
                        ..Fetch::from(offset)
                    };
                    world.fetches.push((fetch, world.now + wait));
                    let reader = world.fetches.len() as u32 - 1;
                    state.fetch(fetch, reader, world.now, &mut effects);
                }
                Step::Elapse { ms } => {
                    world.now += Duration::from_millis(ms);
                    state.on_deadline(world.now, &mut effects);
                }
                Step::Trim => {
                    let start = state.marks().high_watermark.0;
                    let boundary = world.batches.iter().rev().find(|(base, ..)| *base <= start);
                    let to = boundary.map_or(0, |(base, ..)| *base);
                    if to > state.marks().log_start.0 {
                        state.on_log_start(Offset(to));
                    }
                }
                Step::Tick => state.on_tick(0, 0, |_| false),
            }
            world.apply(&rules, &state, effects);
        }
        // At the end everything is written, synced and waited for: nobody is left over.
        let mut effects = Vec::new();
        (world.written, world.durable) = (state.marks().log_end.0, state.marks().log_end.0);
        state.on_progress(Offset(world.written), Offset(world.durable), &mut effects);
        world.now += Duration::from_secs(1);
        state.on_deadline(world.now, &mut effects);
        world.apply(&rules, &state, effects);
        prop_assert_eq!(state.waiting(), (0, 0));
        prop_assert_eq!(world.released.len(), world.acks.len());
        world.answered.sort_unstable();
        let all: Vec<u32> = (0..world.fetches.len() as u32).collect();
        prop_assert_eq!(world.answered, all);
        state.on_tick(0, 0, |_| false);
        state.on_tick(0, 0, |_| false);
        prop_assert!(state.is_idle());
    }
}
