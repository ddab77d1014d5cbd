//! Every assignor gives each partition to one member, fairly; the sticky one moves few.

use proptest::prelude::*;

use super::*;
use crate::broker::group_coordinator::ids::GenerationId;

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn topics(counts: &[(&str, u32)]) -> BTreeMap<TopicName, u32> {
    counts.iter().map(|(name, count)| (topic(name), *count)).collect()
}

fn member(id: &str, subscribed: &[&str]) -> SubscribedMember {
    let topics = subscribed.iter().map(|name| topic(name)).collect();
    let subscription = Subscription { topics, ..Subscription::default() };
    SubscribedMember { member_id: id.into(), instance_id: None, subscription }
}

fn show(assignments: &Assignments) -> String {
    let show = |(id, partitions): (&MemberId, &Vec<TopicPartition>)| {
        let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        format!("{id}: {}", partitions.join(" "))
    };
    assignments.iter().map(show).collect::<Vec<_>>().join("; ")
}

/// The same members after they took `assignments` over.
fn holding(
    members: &[SubscribedMember],
    assignments: &Assignments,
    generation: u32,
) -> Vec<SubscribedMember> {
    let mut members = members.to_vec();
    for member in &mut members {
        member.subscription.owned = assignments.get(&member.member_id).cloned().unwrap_or_default();
        member.subscription.generation = Some(GenerationId(generation));
    }
    members
}

#[test]
fn range_cuts_each_topic_into_runs_and_static_members_come_first() {
    let mut members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let counts = topics(&[("t", 3), ("u", 2)]);
    let assigned = Assignor::Range.assign(&members, &counts);
    assert_eq!(show(&assigned), "a: t-0 t-1 u-0; b: t-2 u-1");
    members[1].instance_id = Some("i".into());
    let assigned = Assignor::Range.assign(&members, &counts);
    assert_eq!(show(&assigned), "a: t-2 u-1; b: t-0 t-1 u-0");
}

#[test]
fn round_robin_deals_all_partitions_in_turn_and_skips_who_did_not_subscribe() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let assigned = Assignor::RoundRobin.assign(&members, &topics(&[("t", 3), ("u", 3)]));
    assert_eq!(show(&assigned), "a: t-0 t-2 u-1; b: t-1 u-0 u-2");
    // The example of Kafka's RoundRobinAssignor.
    let members =
        [member("a", &["t0"]), member("b", &["t0", "t1"]), member("c", &["t0", "t1", "t2"])];
    let counts = topics(&[("t0", 1), ("t1", 2), ("t2", 3)]);
    let assigned = Assignor::RoundRobin.assign(&members, &counts);
    assert_eq!(show(&assigned), "a: t0-0; b: t1-0; c: t1-1 t2-0 t2-1 t2-2");
}

#[test]
fn sticky_leaves_a_moving_partition_out_until_its_holder_gave_it_up() {
    let sticky = Assignor::CooperativeSticky;
    let counts = topics(&[("t", 4)]);
    let alone = [member("a", &["t"])];
    let first = sticky.assign(&alone, &counts);
    assert_eq!(show(&first), "a: t-0 t-1 t-2 t-3");

    let mut both = holding(&alone, &first, 1);
    both.push(member("b", &["t"]));
    let second = sticky.assign(&both, &counts);
    assert_eq!(show(&second), "a: t-0 t-1; b: ", "what moves rests");
    let third = sticky.assign(&holding(&both, &second, 2), &counts);
    assert_eq!(show(&third), "a: t-0 t-1; b: t-2 t-3");
    let fourth = sticky.assign(&holding(&both, &third, 3), &counts);
    assert_eq!(fourth, third, "nothing moves without need");
}

#[test]
fn sticky_believes_the_newest_generation_and_nobody_where_two_claim_the_same() {
    let counts = topics(&[("t", 2)]);
    let t0 = TopicPartition { topic: topic("t"), partition: PartitionId(0) };
    let mut members = [member("a", &["t"]), member("b", &["t"])];
    for (member, generation) in members.iter_mut().zip([5, 4]) {
        member.subscription.owned = vec![t0.clone()];
        member.subscription.generation = Some(GenerationId(generation));
    }
    let assigned = Assignor::CooperativeSticky.assign(&members, &counts);
    assert_eq!(show(&assigned), "a: t-0; b: t-1");
    members[1].subscription.generation = Some(GenerationId(5));
    let assigned = Assignor::CooperativeSticky.assign(&members, &counts);
    assert!(!assigned.values().flatten().any(|partition| *partition == t0), "{assigned:?}");
}

/// Members with random subscriptions to topics of random sizes, and holdings left from before.
fn world() -> impl Strategy<Value = (Vec<SubscribedMember>, BTreeMap<TopicName, u32>, bool)> {
    let names = ["t", "u", "v"];
    let counts = proptest::collection::vec(0_u32..9, 3);
    let subscribed = proptest::collection::vec(proptest::collection::vec(any::<bool>(), 3), 1..7);
    (counts, subscribed, any::<bool>()).prop_map(move |(counts, subscribed, is_uniform)| {
        let mut members = Vec::new();
        for (number, wants) in subscribed.iter().enumerate() {
            let wants = if is_uniform { &[true; 3][..] } else { wants };
            let wanted: Vec<_> =
                names.into_iter().zip(wants).filter(|(_, want)| **want).map(|(n, _)| n).collect();
            members.push(member(&format!("m{number}"), &wanted));
        }
        (members, topics(&names.into_iter().zip(counts).collect::<Vec<_>>()), is_uniform)
    })
}

fn all_wanted(
    members: &[SubscribedMember],
    counts: &BTreeMap<TopicName, u32>,
) -> Vec<TopicPartition> {
    let wanted = counts.iter().filter(|(topic, _)| members.iter().any(|m| m.wants(topic)));
    wanted.flat_map(|(topic, count)| partitions_of(topic, *count)).collect()
}

fn assigned(assignments: &Assignments) -> Vec<TopicPartition> {
    let mut all: Vec<_> = assignments.values().flatten().cloned().collect();
    all.sort();
    all
}

/// Assigns until nothing is left out; how many generations that took.
fn settle(members: &[SubscribedMember], counts: &BTreeMap<TopicName, u32>) -> (Assignments, usize) {
    let mut members = members.to_vec();
    for generation in 1..4 {
        let assignments = Assignor::CooperativeSticky.assign(&members, counts);
        members = holding(&members, &assignments, generation as u32);
        if assigned(&assignments) == all_wanted(&members, counts) {
            return (assignments, generation);
        }
    }
    panic!("three generations did not assign everything");
}

proptest! {
    #[test]
    fn every_assignor_assigns_all_that_is_wanted_to_who_wants_it((members, counts, _) in world()) {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            let assignments = assignor.assign(&members, &counts);
            prop_assert_eq!(assignments.len(), members.len());
            prop_assert_eq!(assigned(&assignments), all_wanted(&members, &counts));
            for member in &members {
                let mine = &assignments[&member.member_id];
                prop_assert!(mine.iter().all(|partition| member.wants(&partition.topic)));
            }
        }
    }

    #[test]
    fn sticky_is_balanced((members, counts, is_uniform) in world()) {
        let (assignments, _) = settle(&members, &counts);
        let load = |member: &SubscribedMember| assignments[&member.member_id].len();
        for (full, empty) in members.iter().flat_map(|a| members.iter().map(move |b| (a, b))) {
            let could_take = assignments[&full.member_id].iter().any(|p| empty.wants(&p.topic));
            prop_assert!(!could_take || load(full) <= load(empty) + 1, "{assignments:?}");
            prop_assert!(!is_uniform || load(full).abs_diff(load(empty)) <= 1);
        }
    }

    #[test]
    fn sticky_moves_no_more_than_it_must(
        (members, counts, _) in world(), gone in 0_usize..6, comes in any::<bool>(),
    ) {
        let uniform: Vec<_> =
            members.iter().map(|m| member(m.member_id.as_str(), &["t", "u", "v"])).collect();
        let (before, _) = settle(&uniform, &counts);
        let mut members = holding(&uniform, &before, 9);
        if members.len() > 1 {
            members.remove(gone % members.len());
        }
        if comes {
            members.push(member("new", &["t", "u", "v"]));
        }
        let (after, generations) = settle(&members, &counts);
        prop_assert!(generations <= 2);
        let total = assigned(&after).len();
        let most = total.div_ceil(members.len());
        for member in &members {
            let (had, has) = (&member.subscription.owned, &after[&member.member_id]);
            let lost = had.iter().filter(|partition| !has.contains(partition)).count();
            // Whoever loses something had more than its share; nobody swaps.
            prop_assert!(lost == 0 || has.len() + lost == had.len(), "{member:?} {has:?}");
            prop_assert!(lost == 0 || has.len() + 1 >= most, "{member:?} {has:?}");
        }
    }

    #[test]
    fn sticky_never_gives_away_what_another_still_holds((members, counts, _) in world()) {
        let (before, _) = settle(&members, &counts);
        let mut members = holding(&members, &before, 9);
        members.push(member("new", &["t", "u", "v"]));
        let assignments = Assignor::CooperativeSticky.assign(&members, &counts);
        for member in &members {
            for partition in &assignments[&member.member_id] {
                let others = members.iter().filter(|other| other.member_id != member.member_id);
                prop_assert!(!others.into_iter().any(|o| o.subscription.owned.contains(partition)));
            }
        }
    }
}
