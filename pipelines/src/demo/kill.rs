//! Kills one actor after the other: each panics in the middle of its work.

use std::{
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_rt::task::JoinHandle;
use flumen_actors::broker::{OFFSETS_TOPIC, group_coordinator::ids::GroupId};

use super::{GROUPS, PIPELINE, TOPIC};
use crate::node::Node;

/// How often a kill is tried: an actor may be on its way back from the last one.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The names of those that were killed. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Killed {
    names: Arc<Mutex<Vec<String>>>,
    is_enough: Arc<AtomicBool>,
}

impl Killed {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody else is to be killed.
    pub(super) fn stop(&self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }

    fn add(&self, name: String) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

/// Who kills.
pub(super) struct Killer {
    pub(super) killed: Killed,
    task: JoinHandle<()>,
}

impl Killer {
    /// Resolves when all are killed that were to be.
    pub(super) async fn ended(self) {
        // It ends early only with the process.
        let _ = self.task.await;
    }
}

/// Kills a source, a channel, a sink, a partition and a group's coordinator, spread over `duration`.
pub(super) fn start(node: Node, duration: Duration) -> Killer {
    let killed = Killed::default();
    let (panics, shared) = (count_panics(), killed.clone());
    let task = actix_rt::spawn(async move {
        let agent = ["tail", "buffer", "publish"].map(|part| format!("{PIPELINE}/{part}"));
        let victims = agent.into_iter().chain([format!("partition/{TOPIC}-0"), coordinator(&node)]);
        let pause = duration / 6;
        for victim in victims {
            tokio::time::sleep(pause).await;
            if !shared.is_enough.load(Ordering::Relaxed) && kill(&node, &victim, &panics).await {
                shared.add(victim);
            }
        }
    });
    Killer { killed, task }
}

/// The coordinator of the first group.
fn coordinator(node: &Node) -> String {
    let topics = node.broker().topics();
    let offsets = topics.values().find(|topic| topic.name.as_str() == OFFSETS_TOPIC);
    let partitions = offsets.map_or(1, |topic| topic.partitions.len() as u32);
    let group = GroupId::from(format!("{PIPELINE}/{}", GROUPS[0]).as_str());
    format!("coordinator/{}", group.partition_of(partitions))
}

/// Whether the actor called `victim` has panicked.
async fn kill(node: &Node, victim: &str, panics: &AtomicU64) -> bool {
    let before = panics.load(Ordering::Relaxed);
    for _ in 0..TRIES {
        if node.root().inject_panic(victim).await.is_ok() {
            tokio::time::sleep(TRY_EVERY).await;
        }
        if panics.load(Ordering::Relaxed) > before {
            return true;
        }
    }
    false
}

/// Counts the panics that are injected from now on, and keeps their messages out of the table; any
/// other is shown as ever.
fn count_panics() -> Arc<AtomicU64> {
    let panics = Arc::new(AtomicU64::new(0));
    let (counted, shown) = (panics.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| match info.payload().downcast_ref::<&str>() {
        Some(&"injected panic") => drop(counted.fetch_add(1, Ordering::Relaxed)),
        _ => shown(info),
    }));
    panics
}
