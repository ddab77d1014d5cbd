//! Follows a log file into a topic, keeps what is an error, and prints it: all in one program.

use std::time::Duration;

use bytes::Bytes;
use flumen::{
    node::{self, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    typed::Raw,
};
use flumen_actors::broker::TopicSpec;

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
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.drain().await;
        Ok::<(), PipelineError>(())
    })?;
    Ok(())
}
