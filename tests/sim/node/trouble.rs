//! What goes wrong in a node: panics, arbiters that stop with a message in their hands, and disks
//! that fail or are full for a while.

use std::time::Duration;

use flumen_runtime::{disk::sim::Faults, mailbox::ActorName, placement::Placement};

use super::{Node, Run, partitions};
use crate::node::OFFSETS_TOPIC;

/// Makes some trouble, or none.
pub(super) async fn make(run: &mut Run, node: &Node) {
    let names = actors(run, node);
    let victim = names[run.rng.below(names.len() as u64) as usize].clone();
    match run.rng.below(6) {
        0 if run.has_bad_disks => spoil_the_disks(run).await,
        0 => {
            run.clock.jump(&run.world, &mut run.rng);
            run.book.known().coverage.met("clock jump", 1);
        }
        1..4 => {
            run.world.trace.line(format_args!("panic in {victim}"));
            // It may be down already, waiting for its next life.
            let _ = node.root.inject_panic(&victim).await;
        }
        _ => wedge(run, node, &victim),
    }
}

/// For a while the disks are full, or fail some of what they are asked.
async fn spoil_the_disks(run: &mut Run) {
    let usual = run.world.disks.faults();
    let worse = match run.rng.below(3) {
        0 => Faults { capacity: 0, ..usual },
        1 => Faults { write_errors: 50, ..usual },
        _ => Faults { sync_errors: 50, ..usual },
    };
    run.world.trace.line(format_args!("{worse:?}"));
    run.world.disks.set_faults(worse);
    let time = 50 + run.rng.below(2_500);
    run.world.pass(Duration::from_millis(time)).await;
    run.world.disks.set_faults(usual);
}

/// Who may be hit.
fn actors(run: &Run, node: &Node) -> Vec<String> {
    let mut names: Vec<String> =
        ["controller", "agent/buffer", "agent/publish", "agent/files"].map(str::to_owned).into();
    for topic in [&run.direct, &run.lines, &super::name(OFFSETS_TOPIC)] {
        let those = partitions(&node.broker, topic);
        names.extend(those.map(|partition| format!("partition/{partition}")));
    }
    let coordinators = partitions(&node.broker, &super::name(OFFSETS_TOPIC));
    names.extend(coordinators.map(|partition| format!("coordinator/{}", partition.partition)));
    names
}

/// Wedges the arbiter of `victim`, and lets it go on later, when its actors have long moved.
fn wedge(run: &mut Run, node: &Node, victim: &str) {
    let arbiter = node.process.placement.services().places.get(&ActorName::from(victim));
    let Some(arbiter) = arbiter.filter(|_| node.process.placement.arbiters().len() > 1) else {
        return;
    };
    node.process.wedge(arbiter, Some(&victim.into()));
    run.book.known().coverage.met("wedge", 1);
    let late = Duration::from_millis(2_500 + run.rng.below(4_000));
    let (process, world) = (node.process.clone(), run.world.clone());
    drop(tokio::task::spawn_local(async move {
        world.pass(late).await;
        process.release(arbiter);
    }));
}
