//! One connection: requests out, their answers in, in order.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use flumen_actors::gateway::{
    api::ApiKey,
    codec::{Message, Output, Request, RequestHeader},
    frame::{self, Next},
    messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse},
};
use futures::future::{Either, select};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::error::ClientError;

/// The longest answer that is taken.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take beyond what its request allows the node.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What this client calls itself.
const CLIENT_ID: &str = "flumen";

/// The last version of an API that names topics by their names: this client knows no ids.
fn last_with_names(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce | ApiKey::Fetch => 12,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => i16::MAX,
    }
}

/// A socket, or a pipe into this process.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// See the module.
pub(super) struct Link {
    address: String,
    stream: Box<dyn Stream>,
    input: BytesMut,
    next: i32,
    /// The versions that the node speaks, by the number of the API.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Link {
    /// Connects to a node.
    pub(super) async fn connect(address: &str) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Unreachable { address: address.into(), error };
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?;
        let stream = stream.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Self::over(Box::new(stream), address).await
    }

    /// Begins on a stream that is open: asks what the node speaks.
    pub(super) async fn over(stream: Box<dyn Stream>, address: &str) -> Result<Self, ClientError> {
        let (input, versions) = (BytesMut::new(), BTreeMap::new());
        let mut link = Self { address: address.into(), stream, input, next: 0, versions };
        let told = link.greet().await.map_err(|error| match error {
            ClientError::Broken { address, .. } => ClientError::Closed { address },
            error => error,
        })?;
        let keys = told.api_keys.iter();
        link.versions = keys.map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        Ok(link)
    }

    async fn greet(&mut self) -> Result<ApiVersionsResponse, ClientError> {
        // Version 0 is the one that every node understands.
        let asked = self.write(0, &ApiVersionsRequest::default()).await?;
        self.read(&asked, ANSWER_WITHIN).await
    }

    /// The newest version of `api` that both sides speak.
    pub(super) fn version(&self, api: ApiKey) -> Option<i16> {
        let (first, last) = *self.versions.get(&api.number())?;
        let known = api.versions()?;
        let best = last.min(known.advertised_last).min(last_with_names(api));
        (best >= first.max(known.first)).then_some(best)
    }

    /// Asks, and waits for the answer; `longer` is how long the request itself lets the node wait.
    pub(super) async fn ask<R: Request>(
        &mut self,
        request: &R,
        longer: Duration,
    ) -> Result<R::Response, ClientError> {
        let header = self.tell(request).await?;
        self.read(&header, ANSWER_WITHIN + longer).await
    }

    /// Sends a request that has no answer, or whose answer is read later.
    pub(super) async fn tell<R: Request>(
        &mut self,
        request: &R,
    ) -> Result<RequestHeader, ClientError> {
        let (address, api) = (self.address.clone(), R::API);
        let version = self.version(api).ok_or(ClientError::Unsupported { address, api })?;
        self.write(version, request).await
    }

    async fn write<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<RequestHeader, ClientError> {
        self.next = self.next.wrapping_add(1) & i32::MAX;
        let id = Some(ByteString::from_static(CLIENT_ID));
        let unaskable = |error| ClientError::Unaskable { address: self.address.clone(), error };
        let header = RequestHeader::new::<R>(version, self.next, id).map_err(unaskable)?;
        let mut output = Output::new();
        header.request(request, &mut output).map_err(unaskable)?;
        for slice in output.take_slices() {
            self.write_all(R::API, &slice).await?;
        }
        Ok(header)
    }

    async fn write_all(&mut self, api: ApiKey, slice: &[u8]) -> Result<(), ClientError> {
        let writing = tokio::time::timeout(ANSWER_WITHIN, self.stream.write_all(slice));
        match writing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.late(api, ANSWER_WITHIN)),
        }
    }

    /// The answer to the request of `header`, which is the next that is due.
    pub(super) async fn read<M: Message>(
        &mut self,
        header: &RequestHeader,
        within: Duration,
    ) -> Result<M, ClientError> {
        let deadline = Box::pin(tokio::time::sleep(within));
        let frame = match select(Box::pin(self.frame()), deadline).await {
            Either::Left((frame, _)) => Some(frame?),
            Either::Right(_) => None,
        };
        let frame = frame.ok_or_else(|| self.late(header.api, within))?;
        let (number, answer) = header.response(frame).map_err(|error| {
            let address = self.address.clone();
            match self.versions.is_empty() {
                true => ClientError::NotKafka { address, why: error.to_string() },
                false => ClientError::Unreadable { address, error },
            }
        })?;
        if number != header.correlation_id {
            let address = self.address.clone();
            let why = format!("it answers request {number}, and {} was due", header.correlation_id);
            return Err(ClientError::NotKafka { address, why });
        }
        Ok(answer)
    }

    async fn frame(&mut self) -> Result<Bytes, ClientError> {
        loop {
            match frame::next_response(&mut self.input, FRAME_BYTES_MAX) {
                Ok(Next::Frame(frame)) => return Ok(frame),
                // What is announced is taken as it comes: the buffer grows by what has arrived.
                Ok(Next::Wait { .. }) => {}
                Err(_) => {
                    let why = format!("it says {}", frame::seen(&self.input));
                    return Err(ClientError::NotKafka { address: self.address.clone(), why });
                }
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(self.broken(&"it was closed")),
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { address: self.address.clone(), why: why.to_string() }
    }

    fn late(&self, api: ApiKey, within: Duration) -> ClientError {
        ClientError::Late { address: self.address.clone(), api, within }
    }
}
