//! From a frame to the handler of its API, and from what that says to the bytes of the answer.
//!
//! Every request passes here the point where a client may be throttled; whether it may do what it
//! asks, its handler asks [`super::context::authorize`].

use std::{
    cell::Cell, future::Future, mem, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll,
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use flumen_runtime::{
    credit::{Acquire, Permit},
    ids::ArbiterId,
    placement::Local,
};
use futures::{FutureExt, future::LocalBoxFuture, poll};
use tokio::time::Instant;

use super::{
    Shared,
    api::ApiKey,
    codec::{
        DecodeError, HeaderError, Message, Output, Request, RequestFrame, RequestHeader,
        unsupported_api_versions,
    },
    connection::{Answer, Frame, Reply, Serve},
    context::{Principal, RequestContext, WAIT_MAX, throttle},
    counters::Counters,
    frame::{Foreign, seen},
    handlers::{
        api_versions, cluster, configs, fetch, find_coordinator,
        groups::{administration, membership, offsets},
        list_offsets, metadata, partitions, produce, producer_ids, topics,
    },
    home::{Homes, Seeker},
    large::Turn,
    listener::Endpoint,
    messages::{fetch::FetchRequest, produce::ProduceRequest},
};
use crate::broker::names::{PartitionId, TopicName, TopicPartition};

/// From this length on an answer takes of the node's room for answers until it is sent.
const LARGE_BYTES: usize = 64 << 10;

/// Whether the answer may be far larger than the question. Of these, one at a time is worked on for
/// each connection: as many as may be in flight would be many times the whole catalogue.
fn is_answer_large(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Fetch
            | ApiKey::Metadata
            | ApiKey::OffsetFetch
            | ApiKey::ListGroups
            | ApiKey::DescribeGroups
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers
            | ApiKey::DescribeTopicPartitions
    )
}

/// The API of a request: its first two bytes.
fn api_of(frame: &Frame) -> Option<ApiKey> {
    let number = frame.bytes.first_chunk().map(|number| i16::from_be_bytes(*number));
    number.and_then(ApiKey::from_number)
}

/// Whether the request may wait for what other clients do. What it says is with its group then.
fn waits_for_others(api: ApiKey) -> bool {
    matches!(api, ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// A request may take so many times its own bytes for what it is decoded to, without further room.
const DECODED_FREE: usize = 2;

/// Room that a request holds while it is in work.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// For its frame.
    pub(super) frame: Option<Permit>,
    /// For what it is decoded to.
    pub(super) decoded: Option<Permit>,
}

impl Held {
    /// The same, and nothing is left here.
    fn take(&mut self) -> Self {
        mem::take(self)
    }

    /// The request as it was: it is served again once there is `room`.
    fn give_back(self, request: RequestFrame, room: Acquire) -> Reply {
        let (header, bytes) = request.into_parts();
        drop(header);
        let bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        match self.frame {
            Some(permit) => Reply::Not(Frame { bytes, permit, decoded: None }, room),
            None => Reply::Now(Answer::close("a request lost its room")),
        }
    }
}

/// A request that was not taken up.
enum Undecoded {
    /// It never will be, and this is why.
    Bad(String),
    /// There is no room now for what it is decoded to.
    NoRoom(Acquire),
}

impl From<DecodeError> for Undecoded {
    fn from(error: DecodeError) -> Self {
        Undecoded::Bad(error.to_string())
    }
}

/// What one connection asks, and what is remembered of it from request to request.
pub(super) struct Requests {
    shared: Arc<Shared>,
    /// Where its requests are counted.
    counters: Arc<Counters>,
    listener: Endpoint,
    peer: SocketAddr,
    /// What the client called itself last: a copy, so that nothing that outlives a request holds its
    /// frame.
    client_id: Option<ByteString>,
    /// Taken out by the one fetch that is in work.
    session: Rc<Cell<fetch::Session>>,
    /// Until it is known where it belongs.
    seeker: Option<Seeker>,
}

impl Requests {
    pub(super) fn new(shared: Arc<Shared>, listener: Endpoint, peer: SocketAddr) -> Self {
        let counters = shared.counters.clone();
        let (client_id, session, seeker) = (None, Rc::default(), None);
        Self { shared, counters, listener, peer, client_id, session, seeker }
    }

    /// The same, and nobody counts what is asked.
    pub(super) fn uncounted(self) -> Self {
        Self { counters: Arc::default(), ..self }
    }

    /// Has the first requests that write or read partitions say where the connection belongs: it is on
    /// `local` now.
    pub(super) fn seek_home(&mut self, local: Rc<Local>) {
        self.seeker = Some(Seeker::new(local));
    }

    /// The partitions that a request writes or reads; none where it is not understood.
    fn partitions(&self, request: Bytes) -> Option<Vec<TopicPartition>> {
        let request = RequestFrame::parse(request).ok()?;
        let mut partitions = Vec::new();
        let mut name = |topic: &TopicName, partition: i32| {
            let partition = PartitionId(u32::try_from(partition).ok()?);
            partitions.push(TopicPartition { topic: topic.clone(), partition });
            Some(())
        };
        if request.header.api == ApiKey::Produce {
            for topic in request.decode::<ProduceRequest>().ok()?.topic_data {
                let known = topic.name.parse().ok()?;
                topic.partition_data.iter().try_for_each(|data| name(&known, data.index))?;
            }
        } else {
            let topics = self.shared.broker.topics();
            for topic in request.decode::<FetchRequest>().ok()?.topics {
                let by_id = topics.by_id(topic.topic_id).map(|known| known.name.clone());
                let known = by_id.or_else(|| topic.topic.parse().ok())?;
                topic.partitions.iter().try_for_each(|asked| name(&known, asked.partition))?;
            }
        }
        Some(partitions)
    }

    fn context(&self, header: &RequestHeader, bytes: usize) -> RequestContext {
        let mut context = RequestContext {
            principal: Principal::default(),
            listener: self.listener.clone(),
            client_id: header.client_id.clone(),
            peer: self.peer,
            api: header.api,
            version: header.version.number,
            deadline: Instant::now() + WAIT_MAX,
            throttled: std::time::Duration::ZERO,
            turn: Turn::default(),
        };
        context.throttled = throttle(&context, bytes);
        context
    }

    /// Puts our own copy of the client's name in the place of the frame's.
    fn keep_client_id(&mut self, header: &mut RequestHeader) {
        if self.client_id != header.client_id {
            self.client_id = header.client_id.as_deref().map(ByteString::from);
        }
        header.client_id = self.client_id.clone();
    }

    /// The request, and with it the room for what it is decoded to beyond [`DECODED_FREE`].
    fn decode<Q: Request>(&self, request: &RequestFrame, held: &mut Held) -> Result<Q, Undecoded> {
        let (body, arrays) = request.weigh()?;
        let free = DECODED_FREE.saturating_mul(request.bytes().len());
        if arrays > free && held.decoded.is_none() {
            let room = self.shared.request_room.decoded();
            let acquire = || Undecoded::NoRoom(room.acquire(1, arrays));
            held.decoded = Some(room.try_acquire(1, arrays).map_err(|_| acquire())?);
        }
        Ok(body)
    }

    /// Has the request answered by `handle`. The room that it takes is given back with the answer, or, where
    /// it `waits` for others of its kind, once it does: what it says is kept elsewhere then.
    fn answer<Q, F>(
        &self,
        request: &RequestFrame,
        context: RequestContext,
        held: &mut Held,
        handle: impl FnOnce(Arc<Shared>, RequestContext, Q) -> F,
    ) -> Result<LocalBoxFuture<'static, Answer>, Undecoded>
    where
        Q: Request + 'static,
        F: Future<Output = Q::Response> + 'static,
    {
        let mute = context.throttled;
        let body = self.decode(request, held)?;
        let mut held = held.take();
        let header = request.header.clone();
        let (shared, counters) = (self.shared.clone(), self.counters.clone());
        let (taken, turn) = (Instant::now(), context.turn.clone());
        let handled = handle(self.shared.clone(), context, body);
        let answer = async move {
            let mut handled = pin!(handled);
            let response = match poll!(&mut handled) {
                Poll::Ready(response) => response,
                Poll::Pending => {
                    if waits_for_others(header.api) {
                        drop(held.take());
                    }
                    handled.await
                }
            };
            drop(held);
            let answer = Answer { mute, ..encode(&header, &response) };
            drop(response);
            let bytes = answer.len();
            counters.answered(header.api, taken, bytes);
            if bytes < LARGE_BYTES {
                return answer;
            }
            let room = shared.answer_room.acquire(1, bytes).await;
            drop(turn);
            Answer { permit: Some(room), ..answer }
        };
        Ok(answer.boxed_local())
    }

    /// Every API whose requests are independent of each other.
    fn dispatch(
        &self,
        request: &RequestFrame,
        context: RequestContext,
        held: &mut Held,
    ) -> Result<LocalBoxFuture<'static, Answer>, Undecoded> {
        macro_rules! handled_by {
            ($($api:ident => $handle:path),* $(,)?) => {
                match context.api {
                    $(ApiKey::$api => self.answer(request, context, held, $handle),)*
                    api => Err(Undecoded::Bad(format!("{api} is not served"))),
                }
            };
        }
        handled_by! {
            AlterConfigs => configs::alter_all,
            ApiVersions => api_versions::handle,
            CreatePartitions => topics::grow,
            CreateTopics => topics::create,
            DeleteGroups => administration::delete,
            DeleteRecords => partitions::delete_records,
            DeleteTopics => topics::delete,
            DescribeCluster => cluster::describe,
            DescribeConfigs => configs::describe,
            DescribeGroups => administration::describe,
            DescribeLogDirs => cluster::log_dirs,
            DescribeProducers => partitions::producers,
            DescribeTopicPartitions => cluster::topic_partitions,
            FindCoordinator => find_coordinator::handle,
            Heartbeat => membership::heartbeat,
            IncrementalAlterConfigs => configs::alter_some,
            InitProducerId => producer_ids::init,
            JoinGroup => membership::join,
            LeaveGroup => membership::leave,
            ListConfigResources => configs::list,
            ListGroups => administration::list,
            ListOffsets => list_offsets::handle,
            Metadata => metadata::handle,
            OffsetCommit => offsets::commit,
            OffsetDelete => offsets::delete,
            OffsetFetch => offsets::fetch,
            OffsetForLeaderEpoch => partitions::epoch_ends,
            SyncGroup => membership::sync,
        }
    }

    fn fetch(
        &self,
        request: &RequestFrame,
        context: RequestContext,
        held: &mut Held,
    ) -> Result<LocalBoxFuture<'static, Answer>, Undecoded> {
        let mute = context.throttled;
        let body = self.decode(request, held)?;
        let header = request.header.clone();
        let (counters, taken) = (self.counters.clone(), Instant::now());
        let fetched = fetch::handle(self.shared.clone(), context, body, self.session.clone());
        // A fetch may wait long: it has room of its own for that.
        drop(held.take());
        let answer = async move {
            let (response, room) = fetched.await;
            let answer = Answer { mute, permit: room, ..encode(&header, &response) };
            counters.answered(header.api, taken, answer.len());
            answer
        };
        Ok(answer.boxed_local())
    }
}

/// The answer that `response` is. One that its version cannot say is our mistake, and closes the
/// connection rather than lie to the client.
pub(super) fn encode<M: Message>(header: &RequestHeader, response: &M) -> Answer {
    let mut output = Output::new();
    match header.respond(response, &mut output) {
        Ok(()) => Answer::of(output.take_slices()),
        Err(error) => Answer::close(error.to_string()),
    }
}

impl Serve for Requests {
    fn serve(&mut self, frame: Frame) -> Reply {
        let Frame { bytes, permit, decoded } = frame;
        let (size, is_new) = (bytes.len(), decoded.is_none());
        // What stands where a header does, to be told of whoever sends none.
        let head: [u8; 8] = std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default());
        let mut held = Held { frame: Some(permit), decoded };
        let mut request = match RequestFrame::parse(bytes.freeze()) {
            Ok(request) => request,
            Err(HeaderError::Unsupported { api: ApiKey::ApiVersions, correlation_id, .. }) => {
                let mut output = Output::new();
                return Reply::Now(match unsupported_api_versions(correlation_id, &mut output) {
                    Ok(()) => Answer::of(output.take_slices()),
                    Err(error) => Answer::close(error.to_string()),
                });
            }
            Err(error) => {
                let begins = seen(&head[..size.min(head.len())]);
                return Reply::Now(Answer::close(format!("{error}; it begins with {begins}")));
            }
        };
        let (api, version) = (request.header.api, request.header.version.number);
        if !api.serves(version) {
            let why = format!("{api} version {version} is not served");
            return Reply::Now(Answer::close(why));
        }
        if is_new {
            self.counters.taken(api, size);
        }
        self.keep_client_id(&mut request.header);
        let context = self.context(&request.header, size);
        let answer = match api {
            ApiKey::Produce => match self.decode::<ProduceRequest>(&request, &mut held) {
                Ok(body) => {
                    let (shared, counters) = (&self.shared, &self.counters);
                    let context = context.within(body.timeout_ms);
                    return produce::handle(shared, counters, &context, body, request, held);
                }
                Err(error) => Err(error),
            },
            ApiKey::Fetch => {
                // From now on it may have a session, which does not move.
                self.seeker = None;
                self.fetch(&request, context, &mut held)
            }
            _ => self.dispatch(&request, context, &mut held),
        };
        match answer {
            Ok(answer) => Reply::Later(answer),
            Err(Undecoded::Bad(why)) => Reply::Now(Answer::close(why)),
            Err(Undecoded::NoRoom(room)) => held.give_back(request, room),
        }
    }

    fn must_wait(&self, frame: &Frame) -> bool {
        api_of(frame).is_some_and(is_answer_large)
    }

    fn home(&mut self, frame: &mut Frame) -> Option<ArbiterId> {
        let api = api_of(frame)?;
        if self.seeker.is_none() || !matches!(api, ApiKey::Produce | ApiKey::Fetch) {
            return None;
        }
        let bytes = mem::take(&mut frame.bytes).freeze();
        let partitions = self.partitions(bytes.clone()).unwrap_or_default();
        // Nobody else has it any more.
        frame.bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let Homes { writing, reading } = &self.shared.homes;
        let (is_fetch, turn) =
            if api == ApiKey::Fetch { (true, reading) } else { (false, writing) };
        Seeker::look(&mut self.seeker, &partitions, is_fetch, turn)
    }

    fn recognise(&self, head: [u8; 4]) -> Option<String> {
        let foreign = Foreign::begins(head)?;
        Some(format!("the peer sent {foreign}, which is not Kafka's protocol"))
    }
}
