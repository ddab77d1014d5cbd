//! Reading from many partitions within one limit, as often as it takes to have enough.
//!
//! ```text
//!   one partition: wait for what comes, in memory ──► answer
//!     │ it is to be read
//!     ▼
//!   room for an answer ──► a part of each, at once ──► what was larger than its part, in order
//!     ▲            ▲                                                 │
//!     │            └─ and for the first batch of all, where that ◄───┤
//!     │               is larger than an answer                       │
//!     └── something came ◄── wait where each ended, without room ◄───┴──► enough, or time is over: answer
//! ```
//!
//! As in Kafka, only the first partition that has anything may exceed the limits, and only with its
//! first batch: there is progress however small the limits are, and nothing is read without room for it.
//! What was given its room is held under it until it was sent.
//!
//! In Kafka partitions are read in the order of the request, and clients see to it that this is not
//! always the same one (KIP-74). But an answer holds less here than it does there: a batch for which a
//! client has room, larger than an answer, comes only where its partition is the first. So a request
//! without a session begins with what the limit of an answer left out of the last one; a session has an
//! order of its own.
//!
//! Enough is what Kafka takes for it: what there is, of each partition up to its limit, comes to
//! `min_bytes`, even where whole batches do not make it up.

use std::time::Duration;

use actix::MailboxError;
use flumen_runtime::{batch, credit::Permit, ids::Offset};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};

use super::{ANSWER_BYTES_MAX, Target, Terms, refusal};
use crate::{
    broker::{
        names::Isolation,
        partition::messages::{Fetch, FetchError, Fetched, Portion},
    },
    gateway::{
        Shared,
        codec::Records,
        error_code::ErrorCode,
        messages::fetch::{AbortedTransaction, PartitionData},
    },
};

/// Least bytes that a partition is asked for, so that many of them do not make tiny reads.
const PART_BYTES_MIN: usize = 64 << 10;
/// Partitions that are read at once.
const AT_ONCE: usize = ANSWER_BYTES_MAX / PART_BYTES_MIN;

/// How long it rests when something came to what was not enough, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

type Read = Result<Result<Fetched, FetchError>, MailboxError>;

/// A partition, by its place among the targets, and how many bytes of it are wanted.
type Part = (usize, usize);

impl Target {
    /// Most bytes that are wanted of it, unless its first batch alone has more.
    fn bytes_max(&self, terms: Terms) -> usize {
        let wanted = usize::try_from(self.want.partition.partition_max_bytes).unwrap_or(0);
        wanted.min(terms.bytes_max)
    }

    fn offset(&self) -> Offset {
        Offset(u64::try_from(self.want.partition.fetch_offset).unwrap_or(u64::MAX))
    }

    fn fetch(&self, terms: Terms, bytes_max: usize) -> Fetch {
        let (isolation, portion) = (terms.isolation, Portion::Strict);
        Fetch { bytes_max, isolation, portion, ..Fetch::from(self.offset()) }
    }

    /// Waits from `offset` on until there are `bytes_min` bytes, it says something else, or the time is
    /// over. What was not in memory then is still to be read: nobody holds room for it.
    async fn wait(&self, terms: Terms, offset: Offset, bytes_min: usize, bytes_max: usize) -> Read {
        let (wait, portion) = (terms.left(), Portion::InMemory);
        let fetch = Fetch { offset, bytes_min, wait, portion, ..self.fetch(terms, bytes_max) };
        self.partition.send(fetch).await
    }

    fn given(&self, read: Read, terms: Terms, asked: usize) -> Given {
        let number = self.want.partition.partition;
        let refused = |error| Given { data: refusal(number, error), ..Given::default() };
        match read {
            Ok(Ok(fetched)) => Given::new(number, fetched, terms.isolation, asked),
            Ok(Err(error)) => refused((&error).into()),
            Err(_) => refused(ErrorCode::NotLeaderOrFollower),
        }
    }
}

/// What a partition gave.
#[derive(Default)]
struct Given {
    data: PartitionData,
    /// How much it was asked for.
    asked: usize,
    /// Where all that can be read ended then.
    end: Offset,
    /// Bytes of its first batch, where that is more than it was asked for.
    withheld: usize,
}

impl Given {
    fn new(partition_index: i32, fetched: Fetched, isolation: Isolation, asked: usize) -> Self {
        let aborted = (isolation == Isolation::Committed).then(|| {
            let aborted = fetched.aborted.iter();
            let aborted = aborted.map(|one| AbortedTransaction {
                producer_id: one.producer.0,
                first_offset: one.first_offset.0 as i64,
            });
            aborted.collect()
        });
        let (marks, withheld) = (fetched.marks, fetched.withheld);
        let mut records = Records::default();
        fetched.batches.into_iter().for_each(|batches| records.push(batches));
        let data = PartitionData {
            partition_index,
            high_watermark: marks.high_watermark.0 as i64,
            last_stable_offset: marks.last_stable.0 as i64,
            log_start_offset: marks.log_start.0 as i64,
            aborted_transactions: aborted,
            records,
            ..PartitionData::default()
        };
        let end = match isolation {
            Isolation::Committed => marks.last_stable,
            Isolation::Uncommitted | Isolation::LogEnd | Isolation::Durable => marks.high_watermark,
        };
        Self { data, asked, end, withheld }
    }

    fn bytes(&self) -> usize {
        self.data.records.len()
    }

    fn has_error(&self) -> bool {
        self.data.error_code != ErrorCode::None
    }

    fn has_any(&self) -> bool {
        self.withheld > 0 || self.bytes() > 0
    }

    /// Whether there was more than it gave.
    fn is_cut(&self) -> bool {
        let last = self.data.records.slices().last();
        self.withheld > 0
            || last.and_then(|last| batch::end_of(last)).is_some_and(|next| next < self.end)
    }

    /// Takes back what it gave: there is no room for it.
    fn withhold(&mut self) {
        self.withheld = self.bytes();
        self.data.records = Records::default();
        self.data.aborted_transactions = None;
    }
}

/// What an answer is made of.
pub(super) struct Answers {
    /// Of each target, in their order.
    pub(super) given: Vec<PartitionData>,
    /// The first target of which there was something, and no room for it.
    pub(super) left_out: Option<usize>,
    /// The room that the records take.
    pub(super) room: Option<Permit>,
}

/// What all partitions gave, in the order of the targets.
#[derive(Default)]
struct Gathered {
    given: Vec<Given>,
    bytes: usize,
}

impl Gathered {
    /// Reads parts of some partitions at once, in the place of what they gave before.
    async fn read(&mut self, targets: &[Target], terms: Terms, parts: &[Part]) {
        for (at, _) in parts {
            self.bytes -= std::mem::take(&mut self.given[*at]).bytes();
        }
        let reads = parts.iter().map(|(at, bytes_max)| {
            let target = &targets[*at];
            target.partition.send(target.fetch(terms, *bytes_max))
        });
        for ((at, asked), read) in parts.iter().zip(join_all(reads).await) {
            let mut given = targets[*at].given(read, terms, *asked);
            let is_beside = self.bytes > 0 && given.bytes() > 0;
            if is_beside && self.bytes + given.bytes() > terms.bytes_max {
                given.withhold();
            }
            self.bytes += given.bytes();
            self.given[*at] = given;
        }
    }

    /// What is worth another read: batches that were larger than their part, as far as there is room;
    /// and where all that came is not enough, more of where there is more.
    fn more(&self, targets: &[Target], terms: Terms) -> Vec<Part> {
        let mut left = terms.bytes_max.saturating_sub(self.bytes);
        let first = self.given.iter().position(Given::has_any);
        let (mut more, mut cut) = (Vec::new(), Vec::new());
        let has_too_few = self.bytes < terms.bytes_min;
        for ((at, given), target) in self.given.iter().enumerate().zip(targets) {
            let bytes_max = target.bytes_max(terms);
            let most = if first == Some(at) { left } else { left.min(bytes_max) };
            if given.withheld > 0 && given.withheld <= most {
                left -= given.withheld;
                more.push((at, given.withheld));
            } else if has_too_few && given.asked < bytes_max && given.is_cut() {
                cut.push(at);
            }
        }
        if !more.is_empty() || left == 0 {
            return more;
        }
        let share = left / cut.len().max(1);
        let grown = |at: usize| self.given[at].bytes() + share;
        cut.into_iter().map(|at| (at, grown(at).min(targets[at].bytes_max(terms)))).collect()
    }

    /// The first partition that has anything, where it could not be given: it is larger than all that
    /// an answer may be, or others have taken its place.
    fn left_out(&self) -> Option<Part> {
        let first = self.given.iter().position(Given::has_any)?;
        let withheld = self.given[first].withheld;
        (withheld > 0).then_some((first, withheld))
    }

    fn is_enough(&self, targets: &[Target], terms: Terms) -> bool {
        if self.bytes >= terms.bytes_min || self.given.iter().any(Given::has_error) {
            return true;
        }
        let counts = |(given, target): (&Given, &Target)| match given.is_cut() {
            // It was not even asked for all that is wanted of it: the answer is full.
            true if given.asked < target.bytes_max(terms) => terms.bytes_min,
            true => given.asked,
            false => given.bytes(),
        };
        let counted = self.given.iter().zip(targets).map(counts);
        counted.fold(0, usize::saturating_add) >= terms.bytes_min
    }

    /// How many bytes they are, and where each partition ended.
    fn into_ends(self) -> (usize, Vec<Offset>) {
        (self.bytes, self.given.into_iter().map(|given| given.end).collect())
    }

    fn into_answers(self, room: Option<Permit>) -> Answers {
        let left_out = self.given.iter().position(|given| given.withheld > 0);
        Answers { given: self.given.into_iter().map(|given| given.data).collect(), left_out, room }
    }
}

/// An answer of each target. Where it `is_due` anyhow, it waits for nothing.
pub(super) async fn gather(
    shared: &Shared,
    targets: &[Target],
    is_due: bool,
    terms: Terms,
) -> Answers {
    // However little a client wants, so much is read at once.
    let least = targets.len().min(AT_ONCE) * PART_BYTES_MIN;
    let usual = terms.bytes_max.max(least);
    let mut pause = PAUSE_MIN;
    let mut first: Option<Part> = None;
    // Whoever follows the end of a partition is answered from memory, as a rule.
    if let [only] = targets
        && !is_due
        && !terms.left().is_zero()
        && let Ok(_waits) = shared.waiting_room.try_acquire(1, 0)
        && let Some(answer) = follow(shared, only, terms, usual).await
    {
        return answer;
    }
    loop {
        let room_bytes = usual + first.map_or(0, |(_, bytes)| bytes);
        let mut room = shared.answer_room.acquire(1, room_bytes).await;
        let read = read_now(targets, terms, first).await;
        let larger = |part: &Part| first.is_none_or(|(_, bytes)| bytes < part.1);
        if let Some(part) = read.left_out().filter(larger) {
            first = Some(part);
            continue;
        }
        let is_over = is_due || targets.is_empty() || terms.left().is_zero();
        // Who waits keeps what it waits for: of that there is an end, too.
        let waits = (!is_over && !read.is_enough(targets, terms))
            .then(|| shared.waiting_room.try_acquire(targets.len(), 0).ok());
        let Some(_waits) = waits.flatten() else {
            let kept = room.split(1, read.bytes.min(room_bytes));
            return read.into_answers(kept);
        };
        // Nothing is held while it waits.
        let (had, ends) = read.into_ends();
        drop(room);
        first = None;
        if let [only] = targets
            && only.offset() >= ends[0]
        {
            if let Some(answer) = follow(shared, only, terms, usual).await {
                return answer;
            }
            continue;
        }
        wait_for_any(targets, &ends, had, terms).await;
        if had > 0 {
            // What comes bit by bit is not read anew with each bit.
            tokio::time::sleep(pause.min(terms.left())).await;
            pause = PAUSE_MAX.min(2 * pause);
        }
    }
}

/// What comes to a single partition in time, if it is in memory and there is room for it then; or that
/// nothing has come.
async fn follow(shared: &Shared, only: &Target, terms: Terms, usual: usize) -> Option<Answers> {
    let bytes_max = only.bytes_max(terms);
    let woken = only.wait(terms, only.offset(), terms.bytes_min, bytes_max).await;
    let given = only.given(woken, terms, bytes_max);
    let is_nothing = terms.left().is_zero() && given.end <= only.offset();
    if given.bytes() == 0 && !given.has_error() && !is_nothing {
        return None;
    }
    let mut room = shared.answer_room.try_acquire(1, usual).ok()?;
    let kept = room.split(1, given.bytes().min(usual));
    Some(Answers { given: vec![given.data], left_out: None, room: kept })
}

/// Reads what there is, without waiting: all of `first`, and of the others what fits beside it.
async fn read_now(targets: &[Target], terms: Terms, first: Option<Part>) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.given.resize_with(targets.len(), Given::default);
    if let Some(part) = first {
        gathered.read(targets, terms, &[part]).await;
    }
    let is_other = |at: &usize| first.is_none_or(|(first, _)| first != *at);
    let others: Vec<usize> = (0..targets.len()).filter(is_other).collect();
    for some in others.chunks(AT_ONCE) {
        let left = terms.bytes_max.saturating_sub(gathered.bytes);
        let part = (left / some.len()).max(PART_BYTES_MIN).min(left);
        let parts = some.iter().map(|at| (*at, part.min(targets[*at].bytes_max(terms))));
        gathered.read(targets, terms, &parts.collect::<Vec<_>>()).await;
    }
    let more = gathered.more(targets, terms);
    if !more.is_empty() {
        gathered.read(targets, terms, &more).await;
    }
    gathered
}

/// Waits until one of the partitions has more than it had at its end, says something else, or the time is
/// over; they `had` so many bytes together.
async fn wait_for_any(targets: &[Target], ends: &[Offset], had: usize, terms: Terms) {
    let bytes_min = match targets {
        [_] => terms.bytes_min.saturating_sub(had).max(1),
        _ => 1,
    };
    // Only that there is something: it is read with all the others, under a permit.
    let waiting = targets
        .iter()
        .zip(ends)
        .map(|(target, end)| target.wait(terms, target.offset().max(*end), bytes_min, bytes_min));
    let mut waiting: FuturesUnordered<_> = waiting.collect();
    waiting.next().await;
}
