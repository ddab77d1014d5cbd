//! Produce: record batches, as they came, to the partitions they are for.
//!
//! ```text
//!   frame (one buffer) ── decoded ──► where each partition's batch lies in it
//!         │ nobody else holds it                 │
//!         └──► mutable again ──► cut into one buffer a partition ──► Append, stamped in place
//! ```
//!
//! Batches are not copied, not decompressed and not encoded again; that each is whole is checked
//! where it is appended. All appends are on their way before [`handle`] returns, so that the requests
//! of a connection take effect in their order.
//!
//! What is not acknowledged by the deadline of the request, as where a disk is stuck, is answered as timed
//! out. An append that its partition has taken up goes on: who sends it again under the same sequence
//! number is told where it is.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use flumen_runtime::{
    batch::{BatchError, BatchHeader},
    credit::Permit,
};
use futures::{FutureExt, future::join_all};
use tokio::time::{Instant, timeout_at};

use super::Leader;
use crate::{
    broker::{
        OFFSETS_TOPIC,
        names::{Acks, PartitionId, ProducerId, TopicName, TopicPartition},
        partition::messages::{Append, AppendError, Appended, InvalidBatch},
    },
    gateway::{
        Shared,
        codec::RequestFrame,
        connection::{Answer, Reply},
        context::{Operation, RequestContext, Resource, authorize},
        counters::Counters,
        error_code::ErrorCode,
        listener::Endpoint,
        messages::produce::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
            ProduceRequest, ProduceResponse, TopicProduceResponse,
        },
        requests::{Held, encode},
    },
};

/// First version in which leaders are named.
const LEADERS_FIRST: i16 = 10;
/// Compression of a batch that only versions from 7 on may carry.
const ZSTD: u16 = 4;

#[cfg(test)]
thread_local! {
    /// Frames that were copied, since somebody held a slice of them.
    pub(in crate::gateway) static COPIED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// What one partition of the request comes to.
enum Part {
    /// Refused here.
    Refused(ErrorCode, String),
    /// To be appended there.
    Append(TopicPartition, Range<usize>),
}

/// The partitions of a request, topic by topic, with names of their own: they outlive the frame.
type Parts = Vec<(ByteString, Vec<(i32, Part)>)>;

pub(in crate::gateway) fn handle(
    shared: &Arc<Shared>,
    counters: &Arc<Counters>,
    context: &RequestContext,
    request: ProduceRequest,
    frame: RequestFrame,
    held: Held,
) -> Reply {
    let (acks, parts) = match acks(request.acks) {
        Some(acks) => (acks, parts(context, &request, &frame)),
        None => (Acks::InSync, refuse_all(&request, ErrorCode::InvalidRequiredAcks)),
    };
    drop(request);
    let (header, bytes) = frame.into_parts();
    let (counters, taken) = (counters.clone(), Instant::now());
    let Held { frame: permit, decoded } = held;
    let appends = append(shared, acks, parts, bytes, permit);
    let (throttle, mute) = (context.throttle_time_ms(), context.throttled);
    let deadline = (acks != Acks::None).then_some(context.deadline);
    let tells_leaders = context.version >= LEADERS_FIRST;
    let here = tells_leaders.then(|| (shared.clone(), context.listener.clone()));
    let answer = async move {
        // What was decoded goes on as what is awaited.
        let _decoded = decoded;
        let responses = gather(appends, deadline).await;
        if acks == Acks::None {
            return Answer { mute, ..unanswered(&responses) };
        }
        let mut response =
            ProduceResponse { responses, throttle_time_ms: throttle, ..ProduceResponse::default() };
        if let Some((shared, listener)) = here {
            name_leaders(&shared, &listener, &mut response);
        }
        let answer = Answer { mute, ..encode(&header, &response) };
        counters.answered(header.api, taken, answer.len());
        answer
    };
    Reply::Later(answer.boxed_local())
}

fn acks(number: i16) -> Option<Acks> {
    match number {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::InSync),
        _ => None,
    }
}

fn refuse_all(request: &ProduceRequest, error: ErrorCode) -> Parts {
    let refused = |index| (index, Part::Refused(error, "`acks` is -1, 0 or 1".into()));
    let topics = request.topic_data.iter();
    topics
        .map(|topic| {
            let partitions = topic.partition_data.iter().map(|part| refused(part.index));
            (owned(&topic.name), partitions.collect())
        })
        .collect()
}

/// A copy of a name, which does not hold the frame.
fn owned(name: &ByteString) -> ByteString {
    ByteString::from(&**name)
}

/// Where each partition's batch lies in the frame.
fn parts(context: &RequestContext, request: &ProduceRequest, frame: &RequestFrame) -> Parts {
    let is_transactional = request.transactional_id.is_some();
    let mut parts = Parts::with_capacity(request.topic_data.len());
    for topic in &request.topic_data {
        let name = owned(&topic.name);
        let may_write = authorize(context, Operation::Write, Resource::Topic(&name));
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in &topic.partition_data {
            let place = || place(context, &name, data.index, data.records.as_ref(), frame);
            let part = if is_transactional {
                let why = "transactions are not served here: leave `transactional.id` unset";
                Part::Refused(ErrorCode::TransactionalIdAuthorizationFailed, why.into())
            } else if !may_write {
                Part::Refused(ErrorCode::TopicAuthorizationFailed, "not allowed".into())
            } else {
                place().unwrap_or_else(|(error, why)| Part::Refused(error, why))
            };
            partitions.push((data.index, part));
        }
        parts.push((name, partitions));
    }
    parts
}

fn place(
    context: &RequestContext,
    name: &str,
    index: i32,
    records: Option<&Bytes>,
    frame: &RequestFrame,
) -> Result<Part, (ErrorCode, String)> {
    let unknown = |_| (ErrorCode::UnknownTopicOrPartition, format!("there is no `{name}-{index}`"));
    if name == OFFSETS_TOPIC {
        let why = format!("only the node itself writes to `{OFFSETS_TOPIC}`");
        return Err((ErrorCode::InvalidTopicException, why));
    }
    let partition = TopicPartition {
        topic: name.parse().map_err(|_| (ErrorCode::InvalidTopicException, name.to_owned()))?,
        partition: PartitionId(u32::try_from(index).map_err(unknown)?),
    };
    let records = records.filter(|records| !records.is_empty());
    let records = records.ok_or_else(|| (ErrorCode::InvalidRecord, "there is no batch".into()))?;
    check_batch(context, records)?;
    // Records are a slice of the frame; this is where it lies.
    let start = records.as_ptr().addr() - frame.bytes().as_ptr().addr();
    Ok(Part::Append(partition, start..start + records.len()))
}

/// What only the wire asks of a batch; the rest is asked where it is appended.
fn check_batch(context: &RequestContext, records: &Bytes) -> Result<(), (ErrorCode, String)> {
    const MAGIC_AT: usize = 16;
    if records.get(MAGIC_AT).is_some_and(|magic| *magic != 2) {
        let why = "only record batches of magic 2 (Kafka 0.11 and later) are taken";
        return Err((ErrorCode::InvalidRecord, why.into()));
    }
    // What is not there in whole is no batch to Kafka; a client that is told so sends it no more.
    let bad = |error: BatchError| match error {
        BatchError::Short { .. } => (ErrorCode::InvalidRecord, error.to_string()),
        _ => (ErrorCode::CorruptMessage, error.to_string()),
    };
    let header = BatchHeader::parse(records).map_err(bad)?;
    if header.batch_bytes as usize != records.len() {
        let why = "a partition of a request has exactly one batch";
        return Err((ErrorCode::InvalidRecord, why.into()));
    }
    if header.attributes.is_control() {
        return Err((ErrorCode::InvalidRecord, "clients append no control batches".into()));
    }
    if header.attributes.is_transactional() {
        let why = "transactions are not served here";
        return Err((ErrorCode::InvalidTxnState, why.into()));
    }
    if ProducerId(header.producer_id).is_owned() {
        let why = "this producer id belongs to a channel of the node: ask for one of your own";
        return Err((ErrorCode::InvalidProducerIdMapping, why.into()));
    }
    if context.version < 7 && header.attributes.0 & 7 == ZSTD {
        let why = "zstd needs version 7 of Produce";
        return Err((ErrorCode::UnsupportedCompressionType, why.into()));
    }
    Ok(())
}

/// A partition's part of the answer, once its append is answered.
type Response = futures::future::LocalBoxFuture<'static, PartitionProduceResponse>;

/// The answers of all partitions; where there is a deadline, those that are not there by then are late.
async fn gather(
    appends: Vec<(ByteString, Vec<(i32, Response)>)>,
    deadline: Option<Instant>,
) -> Vec<TopicProduceResponse> {
    let (mut responses, mut waits) = (Vec::with_capacity(appends.len()), Vec::new());
    for (name, partitions) in appends {
        let partition_responses = partitions.iter().map(|(index, _)| late(*index)).collect();
        responses.push(TopicProduceResponse {
            name,
            partition_responses,
            ..TopicProduceResponse::default()
        });
        waits.extend(partitions);
    }
    let places = responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
    let filled = places.zip(waits).map(async |(place, (_, response))| *place = response.await);
    let all = join_all(filled);
    match deadline {
        // One timer for all of them, which begins only where one has to be waited for.
        Some(deadline) => drop(timeout_at(deadline, all).await),
        None => drop(all.await),
    }
    responses
}

fn late(index: i32) -> PartitionProduceResponse {
    let why = "it is not acknowledged within the request's `timeout`; it may be yet";
    PartitionProduceResponse {
        index,
        error_code: ErrorCode::RequestTimedOut,
        base_offset: -1,
        error_message: Some(ByteString::from_static(why)),
        ..PartitionProduceResponse::default()
    }
}

/// Sends every append on its way.
fn append(
    shared: &Shared,
    acks: Acks,
    parts: Parts,
    frame: Bytes,
    mut permit: Option<Permit>,
) -> Vec<(ByteString, Vec<(i32, Response)>)> {
    // Only where somebody still holds a slice of the frame is it copied.
    let mut rest = frame.try_into_mut().unwrap_or_else(|shared| {
        #[cfg(test)]
        COPIED.set(COPIED.get() + 1);
        BytesMut::from(&shared[..])
    });
    let mut at = 0;
    let mut send = |index: i32, part: Part| -> Response {
        let (partition, range) = match part {
            Part::Append(partition, range) => (partition, range),
            Part::Refused(error, why) => {
                return std::future::ready(refused(index, error, &why)).boxed_local();
            }
        };
        let mut batches = rest.split_off(range.start - at);
        at = range.end;
        rest = batches.split_off(range.len());
        let Some(address) = shared.broker.partition(&partition) else {
            let why = format!("there is no partition `{partition}`");
            let refused = refused(index, ErrorCode::UnknownTopicOrPartition, &why);
            return std::future::ready(refused).boxed_local();
        };
        let mut append = Append::new(batches).acks(acks);
        append.permit = permit.as_mut().and_then(|permit| permit.split(0, range.len()));
        let answer = address.send(append);
        async move {
            match answer.await {
                Ok(Ok(appended)) => accepted(index, &appended),
                Ok(Err(error)) => PartitionProduceResponse {
                    record_errors: blamed(&error),
                    ..refused(index, (&error).into(), &error.to_string())
                },
                Err(_) => {
                    let why = "the partition is being started anew; send again";
                    refused(index, ErrorCode::NotLeaderOrFollower, why)
                }
            }
        }
        .boxed_local()
    };
    let mut topics = Vec::with_capacity(parts.len());
    for (name, partitions) in parts {
        let sent = partitions.into_iter().map(|(index, part)| (index, send(index, part)));
        topics.push((name, sent.collect()));
    }
    topics
}

fn accepted(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset.0 as i64,
        // -1: the record's time is what its producer says. Of a repeated batch Kafka tells the largest also
        // then, which clients take for the time of each of its records.
        log_append_time_ms: if appended.is_append_time { appended.timestamp_ms } else { -1 },
        log_start_offset: appended.log_start.0 as i64,
        ..PartitionProduceResponse::default()
    }
}

fn refused(index: i32, error_code: ErrorCode, why: &str) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        error_message: Some(why.into()),
        ..PartitionProduceResponse::default()
    }
}

/// Names the leader where that was not found here, and where it is.
fn name_leaders(shared: &Shared, listener: &Endpoint, response: &mut ProduceResponse) {
    for TopicProduceResponse { name, partition_responses, .. } in &mut response.responses {
        let parts = partition_responses.iter_mut();
        for part in parts.filter(|part| part.error_code == ErrorCode::NotLeaderOrFollower) {
            let topics = shared.broker.topics();
            let topic = name.parse().ok().and_then(|name: TopicName| topics.get(&name));
            let leader = topic.and_then(|topic| Leader::of(shared, listener, topic, part.index));
            let Some(Leader { id, epoch, endpoint }) = leader else { continue };
            part.current_leader = LeaderIdAndEpoch { leader_id: id, leader_epoch: epoch };
            let endpoints = &mut response.node_endpoints;
            if let Some((host, port)) = endpoint.filter(|_| endpoints.is_empty()) {
                endpoints.push(NodeEndpoint { node_id: id, host, port: port.into(), rack: None });
            }
        }
    }
}

/// The records that a batch was refused for: a client sends the others again.
fn blamed(error: &AppendError) -> Vec<BatchIndexAndErrorMessage> {
    let AppendError::Invalid(InvalidBatch::Keyless { indexes }) = error else { return Vec::new() };
    let batch_index = indexes.iter().map(|index| i32::try_from(*index).unwrap_or(i32::MAX));
    let blame =
        |batch_index| BatchIndexAndErrorMessage { batch_index, batch_index_error_message: None };
    batch_index.map(blame).collect()
}

/// A request that wants no answer: where it failed, only the end of the connection can say so.
fn unanswered(responses: &[TopicProduceResponse]) -> Answer {
    let parts = responses.iter().flat_map(|topic| &topic.partition_responses);
    match parts.into_iter().find(|part| part.error_code != ErrorCode::None) {
        Some(part) => {
            let why = part.error_message.as_deref().unwrap_or_default();
            Answer::close(format!("an unacknowledged batch was refused: {why}"))
        }
        None => Answer::none(),
    }
}
