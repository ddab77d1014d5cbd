//! What goes wrong in a node: panics, arbiters that stop with a message in their hands, and disks
//! that fail or are full for a while.

use std::time::Duration;

use flumen_actors::broker::group_coordinator::{
    ids::GroupId,
    messages::{DescribeGroup, GroupState},
};
use flumen_runtime::{mailbox::ActorName, placement::Placement};

use super::{Node, Run, members, partitions};
use crate::{disks, node::OFFSETS_TOPIC};

/// Makes some trouble, or none.
pub(super) async fn make(run: &mut Run, node: &Node) {
    let names = actors(run, node);
    let victim = names[run.rng.below(names.len() as u64) as usize].clone();
    match run.rng.below(6) {
        0 if run.has_bad_disks => disks::spoil_for_a_while(&run.world, &mut run.rng).await,
        1 => strike_a_rebalance(run, node).await,
        0 => {
            run.clock.jump(&run.world, &mut run.rng);
            run.book.known().coverage.met("clock jump", 1);
        }
        2..4 => {
            run.world.trace.line(format_args!("panic in {victim}"));
            // It may be down already, waiting for its next life.
            let _ = node.root.inject_panic(&victim).await;
        }
        _ => wedge(run, node, &victim),
    }
}

/// Lets one more member come, and hits the group's coordinator, or the partition on which that stands,
/// while the members have still to agree on who reads what. A coordinator that is wedged goes on late,
/// in the middle of the rebalance of another generation, when it was superseded long ago.
async fn strike_a_rebalance(run: &mut Run, node: &Node) {
    let stay_ms = 500 + run.rng.below(2_000);
    run.add_member(node, Some(stay_ms));
    let group = GroupId::from(members::GROUP);
    for _ in 0..50 {
        let pause = run.rng.below(20);
        run.world.pass(Duration::from_millis(pause)).await;
        let Ok(coordinator) = node.broker.coordinator(&group).await else { continue };
        let asked = coordinator.send(DescribeGroup { group: group.clone() });
        let asked = tokio::time::timeout(Duration::from_millis(100), asked).await;
        let Ok(Ok(Ok(described))) = asked else { continue };
        let is_agreeing = matches!(
            described.state,
            GroupState::PreparingRebalance | GroupState::CompletingRebalance
        );
        if !is_agreeing {
            continue;
        }
        run.book.known().coverage.met("rebalance under failover", 1);
        let offsets = super::name(OFFSETS_TOPIC);
        let count = partitions(&node.broker, &offsets).count() as u32;
        let of_group = group.partition_of(count);
        let victim = match run.rng.chance(3, 4) {
            true => format!("coordinator/{of_group}"),
            false => format!("partition/{offsets}-{of_group}"),
        };
        run.world.trace.line(format_args!("{:?}: {victim} is hit", described.state));
        match run.rng.chance(1, 2) {
            true => drop(node.root.inject_panic(&victim).await),
            false => wedge(run, node, &victim),
        }
        return;
    }
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
