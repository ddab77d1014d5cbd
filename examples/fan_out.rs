//! One source, two channels: every line goes into a topic and into files, each at its own speed.

use std::time::Duration;

use flumen::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
};
use flumen_actors::{
    agent::interceptor::host::Host,
    broker::{TopicSpec, names::TopicName},
};

/// Records in the topic called `name`.
async fn published(node: &Node, name: &str) -> u64 {
    let ends = node.ends(&TopicName::new(name).expect("a name")).await;
    ends.values().map(|end| end.0).sum()
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let (log, archive) = (dir.path().join("app.log"), dir.path().join("archive"));
    std::fs::write(&log, "one\ntwo\nthree\n")?;
    std::fs::create_dir(&archive)?;

    let mut pipeline = Pipeline::new("fan-out");
    pipeline
        .tail("lines", [log.display().to_string()])
        .intercept("host", || Host::named("web-1"))
        .channel("for-topic", Buffer::durable())
        .topic("publish", TopicSpec::new("app", 1)?)
        .channel("for-files", Buffer::memory())
        .files("archive", &archive);
    println!("{}", pipeline.topology());

    node::run(NodeOptions::new(dir.path().join("data")), |node| async move {
        let running = pipeline.start(&node).await?;
        while published(&node, "app").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.drain().await;
        println!("the topic has {} lines", published(&node, "app").await);
        Ok::<(), PipelineError>(())
    })?;
    for entry in std::fs::read_dir(&archive)? {
        let entry = entry?;
        let lines = std::fs::read_to_string(entry.path())?.lines().count();
        println!("the file {} has {lines}", entry.file_name().display());
    }
    Ok(())
}
