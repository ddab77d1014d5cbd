//! Typed values: lines become requests, slow ones go to a topic of their own under their path.

use std::time::Duration;

use bytes::Bytes;
use flumen::{
    node::{self, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    typed::{Bincode, Raw, Record},
};
use flumen_actors::broker::{TopicSpec, names::TopicName};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    path: String,
    micros: u64,
}

impl Record for Request {
    const TYPE: &'static str = "request";
    const VERSION: u16 = 1;
}

fn parse(line: Bytes) -> Option<Request> {
    let (path, micros) = std::str::from_utf8(&line).ok()?.split_once(' ')?;
    Some(Request { path: path.to_owned(), micros: micros.parse().ok()? })
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("requests.log");
    std::fs::write(&log, "/fast 90\n/slow 2500\nnonsense\n/slow 3100\n")?;

    let mut pipeline = Pipeline::new("requests");
    pipeline
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new("lines-read", 2)?);
    pipeline
        .read("lines-read", Raw)
        .flat_map("parse", parse)
        .filter("slow", |request| request.micros > 1000)
        .key_by("by-path", |request| request.path.clone())
        .topic("store", TopicSpec::new("slow-requests", 4)?, Bincode::default());
    pipeline
        .read::<Request>("slow-requests", Bincode::default())
        .for_each("show", |request| println!("{} took {} µs", request.path, request.micros));

    let lines = TopicName::new("lines-read")?;
    Ok(node::run(NodeOptions::new(dir.path().join("data")), |node| async move {
        let running = pipeline.start(&node).await?;
        while node.ends(&lines).await.values().map(|end| end.0).sum::<u64>() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.drain().await;
        Ok::<(), PipelineError>(())
    })?)
}
