//! What a client can send and receive at most: a listener that acknowledges every batch and stores none.
//!
//! `ceiling --listen ADDR` serves until it is killed, on one thread; it is started by
//! `benches/peers/run`, and without that argument it does nothing. A topic has as many partitions as
//! its name says behind its last `-`. Offsets are made up; whoever reads gets a batch that came, again
//! and again.
//!
//! With `--store FILE` it writes what comes to the end of one file, looks at none of it, and syncs
//! nothing: the least that it costs to take bytes from a socket and leave them in the page cache.
//!
//! With `--relay` whoever reads gets what came behind the offset, from memory, and else waits for it: the
//! least time in which a record goes from one client to another.

#![expect(clippy::print_stdout, reason = "a person starts it")]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    fs::{File, OpenOptions},
    io,
    io::Write as _,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use flumen_actors::gateway::{
    api::ApiKey,
    codec::{HeaderError, Output, Records, RequestFrame, unsupported_api_versions},
    messages::{
        api_versions::{ApiVersion, ApiVersionsResponse},
        fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData},
        list_offsets::{
            ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
            ListOffsetsTopicResponse,
        },
        metadata::{
            MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
            MetadataResponseTopic,
        },
        produce::{
            PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
        },
    },
};
use flumen_runtime::batch::BatchHeader;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Instant, timeout_at},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fewest bytes that may be read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a frame's length.
const PREFIX: usize = 4;
const FRAME_BYTES_MAX: usize = 100 << 20;
/// Bytes of an answer with records: what a fetch asks for as a rule.
const ANSWER_BYTES: usize = 1 << 20;
/// The last version of Fetch that names topics.
const FETCH_BY_NAME: i16 = 12;

/// What all connections share.
struct Ceiling {
    here: SocketAddr,
    store: Option<File>,
    relay: Option<Relay>,
    /// The longest batch that came.
    batch: RefCell<Bytes>,
}

fn main() -> io::Result<()> {
    let argument = |name| env::args().skip_while(|arg| arg != name).nth(1);
    let Some(address) = argument("--listen") else {
        println!("ceiling: started by `benches/peers/run`, with `--listen HOST:PORT`");
        return Ok(());
    };
    // Whoever started it may cut the file to nothing meanwhile.
    let open = |path| OpenOptions::new().create(true).append(true).open(path);
    let store = argument("--store").map(open).transpose()?;
    let relay = env::args().any(|arg| arg == "--relay").then(Relay::default);
    actix_rt::System::new().block_on(async move {
        let listener = TcpListener::bind(address).await?;
        let here = listener.local_addr()?;
        let ceiling = Rc::new(Ceiling { here, store, relay, batch: RefCell::default() });
        println!("listening on {here}");
        loop {
            let (stream, _) = listener.accept().await?;
            let ceiling = ceiling.clone();
            actix_rt::spawn(async move {
                if let Err(error) = ceiling.serve(stream).await {
                    println!("{error}");
                }
            });
        }
    })
}

impl Ceiling {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut buffer, mut output) = (BytesMut::new(), Output::new());
        loop {
            buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            while let Some(frame) = cut(&mut buffer)? {
                self.answer(frame, &mut output).await?;
            }
            for slice in output.take_slices() {
                stream.write_all(&slice).await?;
            }
        }
    }

    async fn answer(&self, frame: Bytes, output: &mut Output) -> io::Result<()> {
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
                self.take(&asked)?;
                header.respond(&acknowledged(&asked), output)
            }
            ApiKey::Fetch => {
                let asked = request.decode::<FetchRequest>().map_err(io::Error::other)?;
                let response = match &self.relay {
                    Some(relay) => relay.fetched(&asked).await,
                    None => self.fetched(&asked)?,
                };
                header.respond(&response, output)
            }
            ApiKey::ListOffsets => {
                let asked = request.decode::<ListOffsetsRequest>().map_err(io::Error::other)?;
                header.respond(&beginnings(&asked), output)
            }
            ApiKey::Metadata => {
                let asked = request.decode::<MetadataRequest>().map_err(io::Error::other)?;
                header.respond(&described(&asked, self.here), output)
            }
            ApiKey::ApiVersions => header.respond(&spoken(), output),
            api => return Err(io::Error::other(format!("{api} is not served here"))),
        };
        written.map_err(io::Error::other)
    }

    fn take(&self, asked: &ProduceRequest) -> io::Result<()> {
        if let Some(relay) = &self.relay {
            return relay.take(asked);
        }
        let parts = asked.topic_data.iter().flat_map(|topic| &topic.partition_data);
        for records in parts.filter_map(|part| part.records.as_ref()) {
            if let Some(mut store) = self.store.as_ref() {
                store.write_all(records)?;
            }
            let mut batch = self.batch.borrow_mut();
            if records.len() > batch.len() {
                *batch = Bytes::copy_from_slice(records);
            }
        }
        Ok(())
    }

    fn fetched(&self, asked: &FetchRequest) -> io::Result<FetchResponse> {
        let batch = self.batch.borrow();
        let header = BatchHeader::parse(&batch).map_err(io::Error::other)?;
        let records = |offset: i64| {
            // A checksum does not cover the offset.
            let count = i64::from(header.last_offset_delta) + 1;
            let mut records = BytesMut::with_capacity(ANSWER_BYTES + batch.len());
            for offset in (offset..).step_by(count as usize) {
                if records.len() >= ANSWER_BYTES {
                    break;
                }
                records.extend_from_slice(&offset.to_be_bytes());
                records.extend_from_slice(&batch[size_of::<i64>()..]);
            }
            records.freeze().into()
        };
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|part| PartitionData {
                partition_index: part.partition,
                high_watermark: i64::MAX,
                records: records(part.fetch_offset),
                ..Default::default()
            });
            let (topic, partitions) = (topic.topic.clone(), partitions.collect());
            FetchableTopicResponse { topic, partitions, ..Default::default() }
        });
        Ok(FetchResponse { responses: topics.collect(), ..Default::default() })
    }
}

/// Passes on what comes to the first partition of each topic.
#[derive(Default)]
struct Relay {
    /// Batches by topic, each with the offset behind its last record.
    logs: RefCell<BTreeMap<String, Vec<(i64, Bytes)>>>,
    came: Notify,
}

impl Relay {
    fn take(&self, asked: &ProduceRequest) -> io::Result<()> {
        let mut logs = self.logs.borrow_mut();
        for topic in &asked.topic_data {
            let log = logs.entry(topic.name.to_string()).or_default();
            for records in topic.partition_data.iter().filter_map(|part| part.records.as_ref()) {
                let header = BatchHeader::parse(records).map_err(io::Error::other)?;
                let base = log.last().map_or(0, |(end, _)| *end);
                let mut batch = BytesMut::from(&records[..]);
                batch[..size_of::<i64>()].copy_from_slice(&base.to_be_bytes());
                log.push((base + i64::from(header.last_offset_delta) + 1, batch.freeze()));
            }
        }
        self.came.notify_waiters();
        Ok(())
    }

    async fn fetched(&self, asked: &FetchRequest) -> FetchResponse {
        let wait = Duration::from_millis(u64::try_from(asked.max_wait_ms).unwrap_or(0));
        let until = Instant::now() + wait;
        loop {
            let came = self.came.notified();
            let response = self.behind(asked);
            let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
            let is_enough = partitions.any(|part| !part.records.is_empty());
            if is_enough || timeout_at(until, came).await.is_err() {
                return response;
            }
        }
    }

    /// What is there behind the offsets that are asked for.
    fn behind(&self, asked: &FetchRequest) -> FetchResponse {
        let logs = self.logs.borrow();
        let topics = asked.topics.iter().map(|topic| {
            let log = logs.get(&*topic.topic).map_or(&[][..], Vec::as_slice);
            let partitions = topic.partitions.iter().map(|part| {
                let first = log.partition_point(|(end, _)| *end <= part.fetch_offset);
                let mut records = Records::default();
                log[first..].iter().for_each(|(_, batch)| records.push(batch.clone()));
                let partition_index = part.partition;
                let high_watermark = log.last().map_or(0, |(end, _)| *end);
                PartitionData { partition_index, high_watermark, records, ..Default::default() }
            });
            let (topic, partitions) = (topic.topic.clone(), partitions.collect());
            FetchableTopicResponse { topic, partitions, ..Default::default() }
        });
        FetchResponse { responses: topics.collect(), ..Default::default() }
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

fn beginnings(asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|part| ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                offset: 0,
                ..Default::default()
            })
            .collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
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
    use ApiKey::{ApiVersions, Fetch, ListOffsets, Metadata, Produce};
    let api_keys = [Produce, Fetch, ListOffsets, Metadata, ApiVersions].into_iter();
    let api_keys = api_keys.filter_map(|api| {
        let versions = api.versions()?;
        let last = if api == Fetch { FETCH_BY_NAME } else { versions.advertised_last };
        let min_version = versions.advertised_first;
        Some(ApiVersion { api_key: api as i16, min_version, max_version: last })
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }
}
