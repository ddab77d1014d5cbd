//! Fetch: whole batches from many partitions, now, or when there is something to read.
//!
//! ```text
//!   read all now ──► enough, an error, or no time left? ──► answer
//!        ▲                    │ no
//!        └── something came ──┴──► subscribe to each (a parked fetch), until the first has something
//! ```
//!
//! What was read is held only under a permit of the node's room for answers, which is given back when
//! it was sent. Each partition gives at most a fair part of what the answer may hold, and the first
//! batch of each is whole: there is progress however small the limits are. An answer never holds
//! more than [`ANSWER_BYTES_MAX`], whatever the client allows: many megabytes at once are slower than
//! one after the other.

mod session;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use actix::{Addr, MailboxError};
use flumen_runtime::{credit::Permit, ids::Offset};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::Instant;

pub(in crate::gateway) use self::session::Session;
use self::session::{TopicKey, Want};
use crate::{
    broker::{
        Topic, Topics,
        names::{Isolation, PartitionId, TopicPartition},
        partition::{
            Partition,
            messages::{Fetch, FetchError, Fetched},
        },
        traffic::Traffic,
    },
    gateway::{
        Shared,
        codec::Records,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::fetch::{AbortedTransaction, FetchRequest, FetchResponse, PartitionData},
    },
};

/// Most bytes of records in one answer.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Least bytes that a partition is asked for, so that many of them do not make tiny reads.
const PART_BYTES_MIN: usize = 64 << 10;
/// Partitions that are read at once.
const AT_ONCE: usize = ANSWER_BYTES_MAX / PART_BYTES_MIN;

/// How long it rests when there is something but not enough, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

/// A partition of the request that can be read.
struct Target {
    want: Want,
    partition: Addr<Partition>,
    traffic: Arc<Traffic>,
}

/// How a client wants to be served.
#[derive(Clone, Copy)]
struct Terms {
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: usize,
    until: Instant,
}

impl Terms {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What was gathered so far.
#[derive(Default)]
struct Gathered {
    answers: Vec<(TopicKey, PartitionData)>,
    bytes: usize,
    has_error: bool,
}

impl Gathered {
    fn is_enough(&self, terms: Terms) -> bool {
        self.bytes >= terms.bytes_min || self.has_error
    }
}

type Read = Result<Result<Fetched, FetchError>, MailboxError>;

/// The response, and the room that its records take.
pub(in crate::gateway) async fn handle(
    shared: Arc<Shared>,
    context: RequestContext,
    request: FetchRequest,
    session: Rc<Cell<Session>>,
) -> (FetchResponse, Option<Permit>) {
    static NEXT: AtomicI32 = AtomicI32::new(1);
    let mut response =
        FetchResponse { throttle_time_ms: context.throttle_time_ms(), ..FetchResponse::default() };
    let terms = terms(&request);
    let new_id = NEXT.fetch_add(1, Ordering::Relaxed) & i32::MAX;
    let mut following = session.take();
    let round = following.begin(request, new_id.max(1), &shared.session_room);
    let mut round = match round {
        Ok(round) => round,
        Err(error) => {
            session.set(following);
            response.error_code = error;
            return (response, None);
        }
    };
    let (targets, refused) = resolve(&shared, &context, std::mem::take(&mut round.wants));
    let refusals = refused.len();
    let (gathered, permit) = gather(&shared, &targets, refused, terms).await;
    let mut answers = gathered.answers;
    // Behind the refusals there is one for each target, in their order.
    for (target, (_, data)) in targets.iter().zip(answers.iter().skip(refusals)) {
        target.traffic.goes_out(data.records.slices());
    }
    following.end(&round, &mut answers);
    session.set(following);
    response.session_id = round.session_id;
    response.responses = session::by_topic(answers);
    (response, permit)
}

fn terms(request: &FetchRequest) -> Terms {
    let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let bytes_max = bytes(request.max_bytes).min(ANSWER_BYTES_MAX);
    Terms {
        isolation: match request.isolation_level {
            0 => Isolation::Uncommitted,
            _ => Isolation::Committed,
        },
        bytes_min: bytes(request.min_bytes).min(bytes_max),
        bytes_max,
        until: Instant::now() + Duration::from_millis(wait),
    }
}

/// Who is in charge of each partition that is wanted, and the answers for those that nobody is.
fn resolve(
    shared: &Shared,
    context: &RequestContext,
    wants: Vec<Want>,
) -> (Vec<Target>, Vec<(TopicKey, PartitionData)>) {
    let topics = shared.broker.topics();
    let (mut targets, mut refused) = (Vec::with_capacity(wants.len()), Vec::new());
    for want in wants {
        match target(shared, context, &topics, &want) {
            Ok((partition, traffic)) => targets.push(Target { want, partition, traffic }),
            Err(error) => {
                let data = refusal(want.partition.partition, error);
                refused.push((want.topic, data));
            }
        }
    }
    (targets, refused)
}

fn target(
    shared: &Shared,
    context: &RequestContext,
    topics: &Topics,
    want: &Want,
) -> Result<(Addr<Partition>, Arc<Traffic>), ErrorCode> {
    let topic = find(topics, &want.topic, context.version)?;
    if !authorize(context, Operation::Read, Resource::Topic(topic.name.as_str())) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let number = want.partition.partition;
    let number = u32::try_from(number).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let assigned = topic.partitions.get(number as usize);
    let assigned = assigned.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    super::check_epoch(want.partition.current_leader_epoch, assigned.leader_epoch)?;
    let partition = TopicPartition { topic: topic.name.clone(), partition: PartitionId(number) };
    shared.broker.reading(&partition).ok_or(ErrorCode::NotLeaderOrFollower)
}

fn find<'a>(topics: &'a Topics, key: &TopicKey, version: i16) -> Result<&'a Topic, ErrorCode> {
    if version >= 13 {
        return topics.by_id(key.id).ok_or(ErrorCode::UnknownTopicId);
    }
    let name = key.name.parse().map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    topics.get(&name).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn refusal(partition_index: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData { partition_index, error_code, high_watermark: -1, ..PartitionData::default() }
}

async fn gather(
    shared: &Shared,
    targets: &[Target],
    refused: Vec<(TopicKey, PartitionData)>,
    terms: Terms,
) -> (Gathered, Option<Permit>) {
    let mut pause = PAUSE_MIN;
    // However little a client wants, a batch of each partition that is read at once may come.
    let room_bytes = terms.bytes_max.max(targets.len().min(AT_ONCE) * PART_BYTES_MIN);
    loop {
        let mut room = shared.answer_room.acquire(1, room_bytes).await;
        let mut gathered = Gathered { has_error: !refused.is_empty(), ..Gathered::default() };
        gathered.answers.extend(refused.iter().cloned());
        read_now(targets, terms, &mut gathered).await;
        if gathered.is_enough(terms) || Instant::now() >= terms.until {
            let kept = room.split(1, gathered.bytes.min(room_bytes));
            return (gathered, kept);
        }
        // Nothing is held while it waits.
        drop(room);
        let has_some = std::mem::take(&mut gathered).bytes > 0;
        if let [only] = targets {
            let read = wait_for_one(only, terms).await;
            if let Ok(mut room) = shared.answer_room.try_acquire(1, room_bytes) {
                take(only, read, terms, &mut gathered);
                let kept = room.split(1, gathered.bytes.min(room_bytes));
                return (gathered, kept);
            }
            continue;
        }
        if has_some {
            // Some have records, together not enough: they would wake it at once, each time.
            tokio::time::sleep(pause.min(terms.left())).await;
            pause = PAUSE_MAX.min(2 * pause);
        } else {
            wait_for_any(targets, terms).await;
        }
    }
}

/// Reads what there is, without waiting.
async fn read_now(targets: &[Target], terms: Terms, gathered: &mut Gathered) {
    for some in targets.chunks(AT_ONCE) {
        let left = terms.bytes_max.saturating_sub(gathered.bytes);
        let part = (left / some.len()).max(PART_BYTES_MIN).min(left);
        let reads = some
            .iter()
            .map(|target| target.partition.send(fetch(target, terms, part, Duration::ZERO)));
        for (target, read) in some.iter().zip(join_all(reads).await) {
            take(target, read, terms, gathered);
        }
    }
}

fn fetch(target: &Target, terms: Terms, part: usize, wait: Duration) -> Fetch {
    let wanted = usize::try_from(target.want.partition.partition_max_bytes).unwrap_or(0);
    let offset = u64::try_from(target.want.partition.fetch_offset).unwrap_or(u64::MAX);
    Fetch {
        offset: Offset(offset),
        bytes_max: wanted.min(part),
        bytes_min: 1,
        wait,
        isolation: terms.isolation,
        epoch: None,
    }
}

fn take(target: &Target, read: Read, terms: Terms, gathered: &mut Gathered) {
    let number = target.want.partition.partition;
    let mut data = match read {
        Ok(Ok(fetched)) => answer(number, fetched, terms.isolation),
        Ok(Err(error)) => refusal(number, (&error).into()),
        Err(_) => refusal(number, ErrorCode::NotLeaderOrFollower),
    };
    // A batch larger than its part is given whole; others then wait for the next fetch.
    if gathered.bytes > 0 && gathered.bytes + data.records.len() > terms.bytes_max {
        data.records = Records::default();
        data.aborted_transactions = None;
    }
    gathered.bytes += data.records.len();
    gathered.has_error |= data.error_code != ErrorCode::None;
    gathered.answers.push((target.want.topic.clone(), data));
}

fn answer(partition_index: i32, fetched: Fetched, isolation: Isolation) -> PartitionData {
    let aborted = (isolation == Isolation::Committed).then(|| {
        let aborted = fetched.aborted.iter();
        let aborted = aborted.map(|one| AbortedTransaction {
            producer_id: one.producer.0,
            first_offset: one.first_offset.0 as i64,
        });
        aborted.collect()
    });
    let mut records = Records::default();
    fetched.batches.into_iter().for_each(|batches| records.push(batches));
    PartitionData {
        partition_index,
        high_watermark: fetched.marks.high_watermark.0 as i64,
        last_stable_offset: fetched.marks.last_stable.0 as i64,
        log_start_offset: fetched.marks.log_start.0 as i64,
        aborted_transactions: aborted,
        records,
        ..PartitionData::default()
    }
}

/// Waits until the one partition has enough, says something else, or the time is over.
async fn wait_for_one(only: &Target, terms: Terms) -> Read {
    let bytes_min = terms.bytes_min;
    let fetch = fetch(only, terms, terms.bytes_max, terms.left());
    only.partition.send(Fetch { bytes_min, ..fetch }).await
}

/// Waits until one of the partitions has something, says something else, or the time is over.
async fn wait_for_any(targets: &[Target], terms: Terms) {
    // The least that tells: what came is read again, with all the others, under a permit.
    let parked = |target: &Target| target.partition.send(fetch(target, terms, 1, terms.left()));
    let mut parked: FuturesUnordered<_> = targets.iter().map(parked).collect();
    if parked.next().await.is_none() {
        tokio::time::sleep(terms.left()).await;
    }
}
