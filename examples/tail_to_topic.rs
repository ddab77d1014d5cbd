//! Follows a log that rotates while it is read: every line goes into the topic, once.

use std::{fs::OpenOptions, io::Write as _, time::Duration};

use flumen::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
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
    std::fs::write(&log, "")?;
    let mut pipeline = Pipeline::new("follow");
    pipeline
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new("app", 1)?);

    let lines: u64 = node::run(NodeOptions::new(dir.path().join("data")), |node| async move {
        let running = pipeline.start(&node).await?;
        for rotation in 0..5 {
            for line in 0..100 {
                let file = OpenOptions::new().append(true).create(true).open(&log);
                writeln!(file.expect("a log can be opened"), "line {line} of file {rotation}")
                    .expect("a log can be written");
            }
            // A file that is renamed before anybody has seen it would be nobody's.
            while published(&node, "app").await <= rotation * 100 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let aside = log.with_extension(format!("log.{rotation}"));
            std::fs::rename(&log, aside).expect("a log can be rotated");
        }
        while published(&node, "app").await < 500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.drain().await;
        Ok::<_, PipelineError>(published(&node, "app").await)
    })?;
    println!("500 lines were written into 5 files; the topic has {lines}");
    assert_eq!(lines, 500);
    Ok(())
}
