//! From a frame to the handler of its API, and from what that says to the bytes of the answer.
//!
//! Every request passes here the point where a client may be throttled; whether it may do what it
//! asks, its handler asks [`super::context::authorize`].

use std::{cell::Cell, future::Future, net::SocketAddr, rc::Rc, sync::Arc};

use flumen_runtime::credit::Permit;
use futures::FutureExt;

use super::{
    Shared,
    api::ApiKey,
    codec::{
        HeaderError, Message, Output, Request, RequestFrame, RequestHeader,
        unsupported_api_versions,
    },
    connection::{Answer, Frame, Reply, Serve},
    context::{Principal, RequestContext, throttle},
    frame::Foreign,
    handlers::{
        api_versions, fetch, find_coordinator,
        groups::{membership, offsets},
        list_offsets, metadata, produce, producer_ids,
    },
    listener::Bound,
};

/// What one connection asks, and what is remembered of it from request to request.
pub(super) struct Requests {
    shared: Arc<Shared>,
    listener: Bound,
    peer: SocketAddr,
    /// Taken out by the one fetch that is in work.
    session: Rc<Cell<fetch::Session>>,
}

impl Requests {
    pub(super) fn new(shared: Arc<Shared>, listener: Bound, peer: SocketAddr) -> Self {
        Self { shared, listener, peer, session: Rc::default() }
    }

    fn context(&self, header: &RequestHeader, bytes: usize) -> RequestContext {
        let mut context = RequestContext {
            principal: Principal::default(),
            listener: self.listener.clone(),
            client_id: header.client_id.clone(),
            peer: self.peer,
            api: header.api,
            version: header.version.number,
            throttled: std::time::Duration::ZERO,
        };
        context.throttled = throttle(&context, bytes);
        context
    }

    /// Has the request answered by `handle`. The room that it takes is given back with the answer.
    fn answer<Q, F>(
        &self,
        request: &RequestFrame,
        context: RequestContext,
        permit: Permit,
        handle: impl FnOnce(Arc<Shared>, RequestContext, Q) -> F,
    ) -> Reply
    where
        Q: Request + 'static,
        F: Future<Output = Q::Response> + 'static,
    {
        let mute = context.throttled;
        let body = match request.decode() {
            Ok(body) => body,
            Err(error) => return Reply::Now(Answer::close(error.to_string())),
        };
        let header = request.header.clone();
        let handled = handle(self.shared.clone(), context, body);
        let answer = async move {
            let response = handled.await;
            drop(permit);
            Answer { mute, ..encode(&header, &response) }
        };
        Reply::Later(answer.boxed_local())
    }

    fn fetch(&self, request: &RequestFrame, context: RequestContext, permit: Permit) -> Reply {
        let mute = context.throttled;
        let body = match request.decode() {
            Ok(body) => body,
            Err(error) => return Reply::Now(Answer::close(error.to_string())),
        };
        let header = request.header.clone();
        let fetched = fetch::handle(self.shared.clone(), context, body, self.session.clone());
        // A fetch may wait long; what it asks for is decoded, so its room is free meanwhile.
        drop(permit);
        let answer = async move {
            let (response, room) = fetched.await;
            Answer { mute, permit: room, ..encode(&header, &response) }
        };
        Reply::Later(answer.boxed_local())
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
        let Frame { bytes, permit } = frame;
        let size = bytes.len();
        let request = match RequestFrame::parse(bytes.freeze()) {
            Ok(request) => request,
            Err(HeaderError::Unsupported { api: ApiKey::ApiVersions, correlation_id, .. }) => {
                let mut output = Output::new();
                return Reply::Now(match unsupported_api_versions(correlation_id, &mut output) {
                    Ok(()) => Answer::of(output.take_slices()),
                    Err(error) => Answer::close(error.to_string()),
                });
            }
            Err(error) => return Reply::Now(Answer::close(error.to_string())),
        };
        let (api, version) = (request.header.api, request.header.version.number);
        if !api.serves(version) {
            let why = format!("{api} version {version} is not served");
            return Reply::Now(Answer::close(why));
        }
        let context = self.context(&request.header, size);
        match api {
            ApiKey::Produce => produce::handle(&self.shared, &context, request, permit),
            ApiKey::Fetch => self.fetch(&request, context, permit),
            ApiKey::ApiVersions => self.answer(&request, context, permit, api_versions::handle),
            ApiKey::Metadata => self.answer(&request, context, permit, metadata::handle),
            ApiKey::FindCoordinator => {
                self.answer(&request, context, permit, find_coordinator::handle)
            }
            ApiKey::InitProducerId => self.answer(&request, context, permit, producer_ids::init),
            ApiKey::ListOffsets => self.answer(&request, context, permit, list_offsets::handle),
            ApiKey::JoinGroup => self.answer(&request, context, permit, membership::join),
            ApiKey::SyncGroup => self.answer(&request, context, permit, membership::sync),
            ApiKey::Heartbeat => self.answer(&request, context, permit, membership::heartbeat),
            ApiKey::LeaveGroup => self.answer(&request, context, permit, membership::leave),
            ApiKey::OffsetCommit => self.answer(&request, context, permit, offsets::commit),
            ApiKey::OffsetFetch => self.answer(&request, context, permit, offsets::fetch),
            ApiKey::OffsetDelete => self.answer(&request, context, permit, offsets::delete),
            _ => Reply::Now(Answer::close(format!("{api} is not served"))),
        }
    }

    fn must_wait(&self, frame: &Frame) -> bool {
        // The first two bytes of a request are its API.
        frame.bytes.starts_with(&ApiKey::Fetch.number().to_be_bytes())
    }

    fn recognise(&self, head: [u8; 4]) -> Option<String> {
        let foreign = Foreign::begins(head)?;
        Some(format!("the peer sent {foreign}, which is not Kafka's protocol"))
    }
}
