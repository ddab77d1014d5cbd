//! Follows a log file into a topic, keeps what is an error, and prints it: all in one program.

use std::time::Duration;

use bytes::Bytes;
use flumen::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    typed::Raw,
};
use flumen_actors::broker::{TopicSpec, names::TopicName};

/// Records in the topic called `name`.
async fn published(node: &Node, name: &str) -> u64 {
    let ends = node.ends(&TopicName::new(name).expect("a name")).await;
    ends.values().map(|end| end.0).sum()
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("app.log");
    std::fs::write(&log, "INFO started\nERROR disk is slow\nINFO working\nERROR disk is gone\n")?;

    let mut pipeline = Pipeline::new("quickstart");
    pipeline
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new("app", 2)?);
    pipeline
        .read("app", Raw)
        .filter("errors", |line: &Bytes| line.starts_with(b"ERROR"))
        .for_each("print", |line| println!("{}", String::from_utf8_lossy(&line)));
    println!("{}", pipeline.topology());

    node::run(NodeOptions::new(dir.path().join("data")), |node| async move {
        let running = pipeline.start(&node).await?;
        while published(&node, "app").await < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.drain().await;
        Ok::<(), PipelineError>(())
    })?;
    Ok(())
}
