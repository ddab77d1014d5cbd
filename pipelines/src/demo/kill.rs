//! Kills one actor after the other: each panics in the middle of its work.

use std::time::Duration;

use super::{AGENT, TOPIC};
use crate::node::Node;

/// What is killed, one after the other: a source, a channel, a sink, a partition, and the coordinators.
fn victims() -> Vec<Vec<String>> {
    let coordinators = (0..4).map(|number| format!("coordinator/{number}")).collect();
    let agent = |part: &str| vec![format!("{AGENT}/{part}")];
    vec![
        agent("tail"),
        agent("buffer"),
        agent("publish"),
        vec![format!("partition/{TOPIC}-0")],
        coordinators,
    ]
}

/// Kills them spread over `duration`, and returns the names of those that were.
pub(super) async fn run(node: Node, duration: Duration) -> Vec<String> {
    // Panics are what this is about: the table must not drown in their messages.
    std::panic::set_hook(Box::new(|info| tracing::debug!(%info, "an actor panicked")));
    let victims = victims();
    let pause = duration / (victims.len() as u32 + 1);
    let mut killed = Vec::new();
    for together in victims {
        tokio::time::sleep(pause).await;
        for victim in together {
            if node.root().inject_panic(&victim).await.is_ok() {
                killed.push(victim);
            }
        }
    }
    killed
}
