//! Fetch: whole batches from many partitions, now, or when there is something to read.
//!
//! An answer never holds more than [`ANSWER_BYTES_MAX`], whatever the client allows: many megabytes at
//! once are slower than one after the other. How partitions share an answer, and what waits for what, is
//! told in [`gather`].

mod gather;
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

use actix::Addr;
use flumen_runtime::credit::Permit;
use tokio::time::Instant;

pub(in crate::gateway) use self::session::Session;
use self::{
    gather::Answers,
    session::{TopicKey, Want},
};
use super::Leader;
use crate::{
    broker::{
        Topic, Topics,
        names::{Isolation, PartitionId, TopicPartition},
        partition::Partition,
        traffic::Traffic,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, WAIT_MAX, authorize},
        error_code::ErrorCode::{self, FencedLeaderEpoch, NotLeaderOrFollower},
        messages::fetch::{
            FetchRequest, FetchResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
        },
    },
};

/// Most bytes of records in one answer.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// First version in which leaders are named.
const LEADERS_FIRST: i16 = 16;

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
    /// Whether the client has room for more than that.
    takes_more: bool,
    until: Instant,
}

impl Terms {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

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
    let is_refused = !refused.is_empty();
    let Answers { given, left_out, room } =
        gather::gather(&shared, &targets, is_refused, terms).await;
    let left_out = left_out.filter(|_| terms.takes_more).map(|at| targets[at].want.key());
    let mut answers = refused;
    for (target, data) in targets.into_iter().zip(given) {
        target.traffic.goes_out(data.records.slices());
        answers.push((target.want.topic, data));
    }
    following.end(&round, left_out, &mut answers);
    session.set(following);
    response.node_endpoints = name_leaders(&shared, &context, &mut answers);
    response.session_id = round.session_id;
    response.responses = session::by_topic(answers);
    (response, room)
}

fn terms(request: &FetchRequest) -> Terms {
    let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let taken = bytes(request.max_bytes);
    let bytes_max = taken.min(ANSWER_BYTES_MAX);
    Terms {
        isolation: match request.isolation_level {
            0 => Isolation::Uncommitted,
            _ => Isolation::Committed,
        },
        bytes_min: bytes(request.min_bytes).min(bytes_max),
        bytes_max,
        takes_more: taken > bytes_max,
        until: Instant::now() + wait.min(WAIT_MAX),
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

/// Names the leader where that was not found here, or in another epoch; and where those leaders are.
fn name_leaders(
    shared: &Shared,
    context: &RequestContext,
    answers: &mut [(TopicKey, PartitionData)],
) -> Vec<NodeEndpoint> {
    let mut endpoints = Vec::new();
    let is_lost = |error| matches!(error, NotLeaderOrFollower | FencedLeaderEpoch);
    let lost = answers.iter_mut().filter(|(_, data)| is_lost(data.error_code));
    for (key, data) in lost.filter(|_| context.version >= LEADERS_FIRST) {
        let topics = shared.broker.topics();
        let Ok(topic) = find(&topics, key, context.version) else { continue };
        let leader = Leader::of(shared, &context.listener, topic, data.partition_index);
        let Some(Leader { id, epoch, endpoint }) = leader else { continue };
        data.current_leader = LeaderIdAndEpoch { leader_id: id, leader_epoch: epoch };
        if let Some((host, port)) = endpoint.filter(|_| endpoints.is_empty()) {
            endpoints.push(NodeEndpoint { node_id: id, host, port: port.into(), rack: None });
        }
    }
    endpoints
}

fn refusal(partition_index: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData { partition_index, error_code, high_watermark: -1, ..PartitionData::default() }
}
