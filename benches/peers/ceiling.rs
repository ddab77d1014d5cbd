//! What a client can send at most: a listener that acknowledges every batch and stores none.
//!
//! `ceiling --listen ADDR` serves until it is killed, on one thread; it is started by
//! `benches/peers/run`, and without that argument it does nothing. A topic has as many partitions as
//! its name says behind its last `-`. Offsets are made up, and nothing can be read back.

#![expect(clippy::print_stdout, reason = "a person starts it")]

use std::{env, io, net::SocketAddr};

use bytes::{Buf as _, Bytes, BytesMut};
use flumen_actors::gateway::{
    api::ApiKey,
    codec::{HeaderError, Output, RequestFrame, unsupported_api_versions},
    messages::{
        api_versions::{ApiVersion, ApiVersionsResponse},
        metadata::{
            MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
            MetadataResponseTopic,
        },
        produce::{
            PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
        },
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Fewest bytes that may be read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a frame's length.
const PREFIX: usize = 4;
const FRAME_BYTES_MAX: usize = 100 << 20;

fn main() -> io::Result<()> {
    let mut args = env::args().skip_while(|arg| arg != "--listen").skip(1);
    let Some(address) = args.next() else {
        println!("ceiling: started by `benches/peers/run`, with `--listen HOST:PORT`");
        return Ok(());
    };
    actix_rt::System::new().block_on(async move {
        let listener = TcpListener::bind(address).await?;
        let here = listener.local_addr()?;
        println!("listening on {here}");
        loop {
            let (stream, _) = listener.accept().await?;
            actix_rt::spawn(async move {
                if let Err(error) = serve(stream, here).await {
                    println!("{error}");
                }
            });
        }
    })
}

async fn serve(mut stream: TcpStream, here: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut output) = (BytesMut::new(), Output::new());
    loop {
        buffer.reserve(READ_BYTES);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while let Some(frame) = cut(&mut buffer)? {
            answer(frame, here, &mut output)?;
        }
        for slice in output.take_slices() {
            stream.write_all(&slice).await?;
        }
    }
}

/// The next request, without its length, where it is whole.
fn cut(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(head) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*head)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("this is no request"));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn answer(frame: Bytes, here: SocketAddr, output: &mut Output) -> io::Result<()> {
    let request = match RequestFrame::parse(frame) {
        Err(HeaderError::Unsupported { api: ApiKey::ApiVersions, correlation_id, .. }) => {
            return unsupported_api_versions(correlation_id, output).map_err(io::Error::other);
        }
        request => request.map_err(io::Error::other)?,
    };
    let header = &request.header;
    let written = match header.api {
        ApiKey::Produce => {
            let asked = request.decode::<ProduceRequest>().map_err(io::Error::other)?;
            header.respond(&acknowledged(&asked), output)
        }
        ApiKey::Metadata => {
            let asked = request.decode::<MetadataRequest>().map_err(io::Error::other)?;
            header.respond(&described(&asked, here), output)
        }
        ApiKey::ApiVersions => header.respond(&spoken(), output),
        api => return Err(io::Error::other(format!("{api} is not served here"))),
    };
    written.map_err(io::Error::other)
}

fn acknowledged(asked: &ProduceRequest) -> ProduceResponse {
    let topics = asked.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        partition_responses: topic
            .partition_data
            .iter()
            .map(|part| PartitionProduceResponse { index: part.index, ..Default::default() })
            .collect(),
        ..Default::default()
    });
    ProduceResponse { responses: topics.collect(), ..Default::default() }
}

fn described(asked: &MetadataRequest, here: SocketAddr) -> MetadataResponse {
    let (host, port) = (here.ip().to_string().into(), i32::from(here.port()));
    let broker = MetadataResponseBroker { node_id: 1, host, port, ..Default::default() };
    let topics = asked.topics.iter().flatten().map(|topic| {
        let name = topic.name.as_deref().unwrap_or_default();
        let count = name.rsplit_once('-').and_then(|(_, count)| count.parse().ok()).unwrap_or(1);
        let partitions = (0..count).map(|partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        });
        let partitions = partitions.collect();
        MetadataResponseTopic { name: topic.name.clone(), partitions, ..Default::default() }
    });
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn spoken() -> ApiVersionsResponse {
    let apis = [ApiKey::Produce, ApiKey::Metadata, ApiKey::ApiVersions];
    let api_keys = apis.into_iter().filter_map(|api| {
        let versions = api.versions()?;
        let (min_version, max_version) = (versions.advertised_first, versions.advertised_last);
        Some(ApiVersion { api_key: api as i16, min_version, max_version })
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }
}
