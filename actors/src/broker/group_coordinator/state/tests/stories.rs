//! Groups told as stories: who joins, who leaves, who is told what.

use super::*;

fn world() -> World {
    World::new(Options::default())
}

/// One member in a stable group, with `a` as its assignment.
fn one_member(world: &mut World) -> JoinedGroup {
    let a = joined(world.ask_now(Request::Join(join(None))));
    let assignments = vec![(a.member_id.clone(), Bytes::from_static(b"a"))];
    assert_eq!(assignment(world.ask_now(sync(&a, assignments))).as_ref(), b"a");
    a
}

/// Two members in a stable group: the leader and the other.
fn two_members(world: &mut World) -> (JoinedGroup, JoinedGroup) {
    let a = one_member(world);
    let b = world.ask(Request::Join(join(None)));
    let a = joined(world.ask_now(Request::Join(join(Some(a.member_id)))));
    let b = joined(world.answer(b));
    let parked = world.ask(sync(&b, Vec::new()));
    let assignments = vec![
        (a.member_id.clone(), Bytes::from_static(b"a")),
        (b.member_id.clone(), Bytes::from_static(b"b")),
    ];
    assert_eq!(assignment(world.ask_now(sync(&a, assignments))).as_ref(), b"a");
    assert_eq!(assignment(world.answer(parked)).as_ref(), b"b");
    (a, b)
}

#[test]
fn a_group_forms_grows_and_shrinks() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    assert_eq!((a.generation, b.generation), (GenerationId(2), GenerationId(2)));
    assert_eq!((&a.leader, &b.leader), (&a.member_id, &a.member_id));
    assert_eq!((a.members.len(), b.members.len()), (2, 0), "only the leader sees the members");
    assert_eq!(world.state(), GroupState::Stable);

    assert_eq!(world.ask_now(heartbeat(&b.member_id, b.generation)), Reply::Heartbeat(Ok(())));
    assert!(matches!(world.ask_now(leave(&a.member_id)), Reply::Leave(Ok(_))));
    let beat = world.ask_now(heartbeat(&b.member_id, b.generation));
    assert_eq!(refusal(beat), GroupError::RebalanceInProgress);
    let b = joined(world.ask_now(Request::Join(join(Some(b.member_id)))));
    assert_eq!((b.generation, &b.leader), (GenerationId(3), &b.member_id));
    assert!(matches!(world.ask_now(leave(&b.member_id)), Reply::Leave(Ok(_))));
    assert_eq!(world.state(), GroupState::Empty);
}

#[test]
fn an_assignment_is_given_only_once_it_is_committed() {
    let mut world = world();
    let a = joined(world.ask_now(Request::Join(join(None))));
    world.holds_commits = true;
    let assignments = vec![(a.member_id.clone(), Bytes::from_static(b"a"))];
    let parked = world.ask(sync(&a, assignments.clone()));
    assert!(!world.is_answered(parked));
    assert_eq!(world.state(), GroupState::CompletingRebalance);
    world.refuse();
    assert_eq!(refusal(world.answer(parked)), GroupError::CoordinatorNotAvailable);

    let a = joined(world.ask_now(Request::Join(join(Some(a.member_id)))));
    let parked = world.ask(sync(&a, assignments));
    world.commit();
    assert_eq!(assignment(world.answer(parked)).as_ref(), b"a");
    assert_eq!(world.state(), GroupState::Stable);
}

#[test]
fn a_rebalance_supersedes_the_assignment_that_is_being_written() {
    let mut world = world();
    let a = joined(world.ask_now(Request::Join(join(None))));
    world.holds_commits = true;
    let assignments = vec![(a.member_id.clone(), Bytes::from_static(b"a"))];
    let parked = world.ask(sync(&a, assignments));
    let b = world.ask(Request::Join(join(None)));
    assert_eq!(refusal(world.answer(parked)), GroupError::RebalanceInProgress);
    let a = joined(world.ask_now(Request::Join(join(Some(a.member_id)))));
    assert_eq!(joined(world.answer(b)).generation, a.generation);
    world.commit();
    assert_eq!(world.state(), GroupState::CompletingRebalance, "it was the former generation's");
}

#[test]
fn a_new_member_is_first_given_its_name() {
    let mut world = world();
    let first = JoinGroup { needs_known_id: true, ..join(None) };
    let GroupError::MemberIdRequired(id) = refusal(world.ask_now(Request::Join(first.clone())))
    else {
        panic!("no name given");
    };
    assert!(id.as_str().starts_with("client-"));
    let again = JoinGroup { member_id: Some(id.clone()), ..first.clone() };
    assert_eq!(joined(world.ask_now(Request::Join(again.clone()))).member_id, id);

    // Who does not come back with it in time is forgotten.
    let GroupError::MemberIdRequired(id) = refusal(world.ask_now(Request::Join(first))) else {
        panic!("no name given");
    };
    world.advance(SESSION_MS);
    let again = JoinGroup { member_id: Some(id), ..again };
    assert_eq!(refusal(world.ask_now(Request::Join(again))), GroupError::UnknownMemberId);
}

#[test]
fn the_first_rebalance_waits_for_more_members_and_is_prolonged_by_them() {
    let mut world = World::new(Options { initial_rebalance_delay_ms: 3_000, ..Options::default() });
    let a = world.ask(Request::Join(join(None)));
    world.advance(2_000);
    let b = world.ask(Request::Join(join(None)));
    world.advance(2_000);
    assert!(!world.is_answered(a), "the second prolonged it");
    world.advance(2_000);
    assert_eq!(joined(world.answer(a)).generation, GenerationId(1));
    assert_eq!(joined(world.answer(b)).generation, GenerationId(1));
}

#[test]
fn a_silent_member_expires_and_one_that_does_not_rejoin_is_left_behind() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    for _ in 0..4 {
        world.advance(SESSION_MS / 2);
        world.ask_now(heartbeat(&a.member_id, a.generation));
    }
    let beat = world.ask_now(heartbeat(&b.member_id, b.generation));
    assert_eq!(refusal(beat), GroupError::UnknownMemberId);
    let alone = joined(world.ask_now(Request::Join(join(Some(a.member_id.clone())))));
    assert_eq!(alone.members.len(), 1);

    // It beats, but does not join: the rebalance goes on without it.
    let c = world.ask(Request::Join(join(None)));
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(!world.is_answered(c));
        world.ask_now(heartbeat(&a.member_id, alone.generation));
        world.advance(5_000);
    }
    assert_eq!(joined(world.answer(c)).members.len(), 1);
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_left_behind() {
    let mut world = world();
    let a = one_member(&mut world);
    let b = world.ask(Request::Join(join(None)));
    let a = joined(world.ask_now(Request::Join(join(Some(a.member_id)))));
    let b = joined(world.answer(b));
    world.ask_now(sync(&a, Vec::new()));
    for _ in 0..REBALANCE_MS / 5_000 {
        world.ask_now(heartbeat(&a.member_id, a.generation));
        world.ask_now(heartbeat(&b.member_id, b.generation));
        world.advance(5_000);
    }
    let beat = world.ask_now(heartbeat(&b.member_id, b.generation));
    assert_eq!(refusal(beat), GroupError::UnknownMemberId);
    assert_eq!(world.state(), GroupState::PreparingRebalance);
}

#[test]
fn the_vote_takes_what_all_speak_and_most_prefer_and_strangers_are_refused() {
    let mut world = world();
    let speak = |names: &[&str]| {
        let protocol = |name: &&str| Protocol { name: (*name).into(), metadata: subscription() };
        JoinGroup { protocols: names.iter().map(protocol).collect(), ..join(None) }
    };
    let a = joined(world.ask_now(Request::Join(speak(&["x", "range", "roundrobin"]))));
    assert_eq!(&*a.protocol, "x");
    let strangers = world.ask_now(Request::Join(speak(&["other"])));
    assert_eq!(refusal(strangers), GroupError::InconsistentGroupProtocol);
    let connect = JoinGroup { protocol_type: "connect".into(), ..speak(&["range"]) };
    let connect = world.ask_now(Request::Join(connect));
    assert_eq!(refusal(connect), GroupError::InconsistentGroupProtocol);

    let b = world.ask(Request::Join(speak(&["roundrobin", "range"])));
    let c = world.ask(Request::Join(speak(&["roundrobin", "range"])));
    let again = JoinGroup { member_id: Some(a.member_id), ..speak(&["x", "range", "roundrobin"]) };
    assert_eq!(&*joined(world.ask_now(Request::Join(again))).protocol, "roundrobin");
    assert_eq!(&*joined(world.answer(b)).protocol, "roundrobin");
    assert_eq!(&*joined(world.answer(c)).protocol, "roundrobin");
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_former_life() {
    let mut world = world();
    let first = joined(world.ask_now(Request::Join(static_join("i", None))));
    assert!(first.member_id.as_str().starts_with("i-"));
    world.ask_now(sync(&first, vec![(first.member_id.clone(), Bytes::from_static(b"a"))]));

    let second = joined(world.ask_now(Request::Join(static_join("i", None))));
    assert_eq!(second.generation, first.generation);
    assert!(second.is_assignment_skipped && second.member_id != first.member_id);
    let assigned = world.ask_now(sync(&second, Vec::new()));
    assert_eq!(assignment(assigned).as_ref(), b"a", "it reads on where it was");

    let beat = Heartbeat {
        group: group(),
        generation: Some(first.generation),
        member_id: first.member_id,
        instance_id: Some("i".into()),
    };
    let beat = world.ask_now(Request::Heartbeat(beat));
    assert_eq!(refusal(beat), GroupError::FencedInstanceId);

    world.restart(true);
    let beat = world.ask_now(heartbeat(&second.member_id, second.generation));
    assert_eq!(beat, Reply::Heartbeat(Ok(())), "the new name is in the log");
}

#[test]
fn only_members_of_this_generation_commit_and_others_only_where_there_are_none() {
    let mut world = world();
    assert!(matches!(world.ask_now(commit(None, 0, 5)), Reply::CommitOffsets(Ok(_))));
    assert_eq!(world.fetch(0).map(|offset| offset.offset), Some(Offset(5)));

    let a = one_member(&mut world);
    assert_eq!(refusal(world.ask_now(commit(None, 0, 6))), GroupError::UnknownMemberId);
    let member = Some((&a.member_id, a.generation));
    assert!(matches!(world.ask_now(commit(member, 0, 7)), Reply::CommitOffsets(Ok(_))));
    let stale = Some((&a.member_id, GenerationId(0)));
    assert_eq!(refusal(world.ask_now(commit(stale, 0, 8))), GroupError::IllegalGeneration);

    // What was read before a rebalance can still be committed while it prepares.
    let b = world.ask(Request::Join(join(None)));
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert!(matches!(world.ask_now(commit(member, 0, 9)), Reply::CommitOffsets(Ok(_))));
    let again = joined(world.ask_now(Request::Join(join(Some(a.member_id.clone())))));
    let completing = Some((&a.member_id, again.generation));
    assert_eq!(refusal(world.ask_now(commit(completing, 0, 10))), GroupError::RebalanceInProgress);
    assert_eq!(refusal(world.ask_now(commit(member, 0, 10))), GroupError::IllegalGeneration);
    assert!(world.is_answered(b));
    assert_eq!(world.fetch(0).map(|offset| offset.offset), Some(Offset(9)));
}

#[test]
fn a_restarted_coordinator_knows_members_and_offsets_and_goes_on() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    world.ask_now(commit(Some((&b.member_id, b.generation)), 3, 33));
    let before = world.describe();
    world.restart(false);
    assert_eq!(world.describe(), before);
    assert_eq!(world.fetch(3).map(|offset| offset.offset), Some(Offset(33)));
    assert_eq!(world.ask_now(heartbeat(&a.member_id, a.generation)), Reply::Heartbeat(Ok(())));
    assert_eq!(assignment(world.ask_now(sync(&b, Vec::new()))).as_ref(), b"b");
    // One that died with it expires.
    world.advance(SESSION_MS);
    let beat = world.ask_now(heartbeat(&b.member_id, b.generation));
    assert_eq!(refusal(beat), GroupError::UnknownMemberId);
}

#[test]
fn an_empty_group_can_be_deleted_and_is_gone_after_a_restart_too() {
    let mut world = world();
    let a = one_member(&mut world);
    world.ask_now(commit(Some((&a.member_id, a.generation)), 1, 11));
    let delete = || Request::DeleteGroup(DeleteGroup { group: group() });
    assert_eq!(refusal(world.ask_now(delete())), GroupError::NonEmptyGroup);
    world.ask_now(leave(&a.member_id));
    assert_eq!(world.ask_now(delete()), Reply::DeleteGroup(Ok(())));
    assert_eq!(world.shard.groups().count(), 0);
    world.restart(false);
    assert_eq!((world.shard.groups().count(), world.fetch(1)), (0, None));
    assert_eq!(refusal(world.ask_now(delete())), GroupError::GroupIdNotFound);
}

#[test]
fn a_deletion_covers_commits_that_are_still_being_written() {
    let mut world = world();
    world.holds_commits = true;
    let first = world.ask(commit(None, 1, 1));
    let second = world.ask(commit(None, 2, 2));
    let deletion = world.ask(Request::DeleteGroup(DeleteGroup { group: group() }));
    let late = world.ask_now(Request::Join(join(None)));
    assert_eq!(refusal(late), GroupError::CoordinatorNotAvailable);
    world.commit();
    assert!(world.is_answered(first) && !world.is_answered(second));
    world.commit();
    assert!(world.is_answered(second));
    assert_eq!(world.answer(deletion), Reply::DeleteGroup(Ok(())));
    world.restart(false);
    assert_eq!(world.shard.groups().count(), 0);
}

#[test]
fn a_deletion_that_cannot_be_written_leaves_the_group_as_it_was() {
    let mut world = world();
    world.ask_now(commit(None, 1, 1));
    world.holds_commits = true;
    let deletion = world.ask(Request::DeleteGroup(DeleteGroup { group: group() }));
    world.refuse();
    assert_eq!(refusal(world.answer(deletion)), GroupError::CoordinatorNotAvailable);
    assert_eq!(world.state(), GroupState::Empty);
    assert_eq!(world.fetch(1).map(|offset| offset.offset), Some(Offset(1)));
}

#[test]
fn all_groups_forget_a_topic_with_what_is_still_being_written_or_none_does() {
    let forget = || Request::ForgetTopic(ForgetTopic { topic: tp(1).topic });
    let mut world = world();
    let other = || {
        let mut request = commit(None, 2, 2);
        if let Request::CommitOffsets(commit) = &mut request {
            commit.group = "other".into();
        }
        request
    };
    world.ask_now(commit(None, 1, 1));
    world.ask_now(other());
    world.holds_commits = true;
    let refused = world.ask(forget());
    world.refuse();
    assert_eq!(refusal(world.answer(refused)), GroupError::CoordinatorNotAvailable);
    assert_eq!((world.fetch(1).is_some(), world.shard.groups().count()), (true, 2));
    let late = world.ask(commit(None, 3, 3));
    let forgotten = world.ask(forget());
    world.commit();
    assert!(world.is_answered(late) && !world.is_answered(forgotten));
    world.commit();
    assert_eq!(world.answer(forgotten), Reply::ForgetTopic(Ok(())));
    assert_eq!((world.fetch(1), world.fetch(3)), (None, None));
    world.restart(false);
    assert_eq!((world.fetch(1), world.fetch(3)), (None, None));
    let nothing = world.ask_now(forget());
    assert_eq!(nothing, Reply::ForgetTopic(Ok(())));
}

#[test]
fn a_group_whose_name_fits_no_record_is_refused() {
    let mut world = world();
    let long: GroupId = "x".repeat(32_768).into();
    let request = JoinGroup { group: long.clone(), ..join(None) };
    assert_eq!(refusal(world.ask_now(Request::Join(request))), GroupError::InvalidGroupId);
    let mut request = commit(None, 1, 1);
    if let Request::CommitOffsets(commit) = &mut request {
        commit.group = long;
    }
    assert_eq!(refusal(world.ask_now(request)), GroupError::InvalidGroupId);
    assert_eq!(world.shard.groups().count(), 0);
}

#[test]
fn a_member_id_has_room_for_the_name_of_its_client() {
    let mut world = world();
    let request = JoinGroup { client_id: "ж".repeat(16_383).into(), ..join(None) };
    let joined = joined(world.ask_now(Request::Join(request)));
    let id = joined.member_id.as_str();
    assert!(id.starts_with("жж"), "{id}");
    assert_eq!(id.len(), 32_767, "the most that Kafka's older texts hold");
}

#[test]
fn a_group_without_offsets_is_there_until_expiry_looks_at_it() {
    let mut world = world();
    world.ask_now(commit(None, 1, 11));
    let request = DeleteOffsets { group: group(), partitions: vec![tp(1)] };
    world.ask_now(Request::DeleteOffsets(request));
    assert_eq!((world.fetch(1), world.shard.groups().count()), (None, 1));
    world.restart(false);
    assert_eq!(world.shard.groups().count(), 1);
    world.advance(world.options.expiry_interval_ms);
    assert_eq!(world.shard.groups().count(), 0);
    world.restart(false);
    assert_eq!(world.shard.groups().count(), 0);
}

#[test]
fn offsets_outlive_their_group_by_a_week() {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let mut world = world();
    let a = one_member(&mut world);
    world.ask_now(commit(Some((&a.member_id, a.generation)), 1, 11));
    world.ask_now(leave(&a.member_id));
    world.advance(7 * DAY_MS - 1_000);
    assert!(world.fetch(1).is_some());
    world.advance(world.options.expiry_interval_ms + 1_000);
    assert_eq!((world.fetch(1), world.shard.groups().count()), (None, 0));
    world.restart(false);
    assert_eq!(world.shard.groups().count(), 0);
}

#[test]
fn offsets_of_a_topic_that_is_read_neither_expire_nor_can_be_deleted() {
    let mut world = world();
    let a = one_member(&mut world);
    world.ask_now(commit(Some((&a.member_id, a.generation)), 1, 11));
    for _ in 0..8 * 24 * 3600 / 5 {
        world.advance(5_000);
        world.ask_now(heartbeat(&a.member_id, a.generation));
    }
    assert!(world.fetch(1).is_some(), "after eight days");
    let request = DeleteOffsets { group: group(), partitions: vec![tp(1)] };
    let Reply::DeleteOffsets(Ok(answer)) = world.ask_now(Request::DeleteOffsets(request)) else {
        panic!("refused as a whole");
    };
    assert_eq!(answer.partitions, [(tp(1), Err(GroupError::GroupSubscribedToTopic))]);
}

#[test]
fn what_is_too_large_is_refused_and_nothing_else() {
    let mut world = World::new(Options { record_bytes_max: 4096, ..Options::default() });
    let a = joined(world.ask_now(Request::Join(join(None))));
    let huge = vec![(a.member_id.clone(), Bytes::from(vec![0; 5_000]))];
    let why = refusal(world.ask_now(sync(&a, huge)));
    assert!(matches!(why, GroupError::UnknownServer(_)), "{why}");
    let mut request = commit(None, 1, 1);
    if let Request::CommitOffsets(commit) = &mut request {
        commit.group = "other".into();
        let long =
            OffsetToCommit { metadata: "x".repeat(4097).into(), ..commit.offsets[0].clone() };
        commit.offsets.push(OffsetToCommit { partition: tp(2), ..long });
    }
    let Reply::CommitOffsets(Ok(answer)) = world.ask_now(request) else { panic!("refused") };
    let results: Vec<_> = answer.partitions.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [Ok(()), Err(GroupError::OffsetMetadataTooLarge { bytes_max: 4096 })]);
}

#[test]
fn session_timeouts_and_sizes_have_bounds() {
    let mut world = World::new(Options { members_max: 1, ..Options::default() });
    let hasty = JoinGroup { session_timeout_ms: 1, ..join(None) };
    let why = refusal(world.ask_now(Request::Join(hasty)));
    assert!(matches!(why, GroupError::InvalidSessionTimeout { got_ms: 1, .. }), "{why}");
    one_member(&mut world);
    let why = refusal(world.ask_now(Request::Join(join(None))));
    assert_eq!(why, GroupError::GroupMaxSizeReached { members_max: 1 });
}

#[test]
fn a_group_s_members_have_an_end_even_where_nobody_set_one() {
    let mut world = world();
    let new = || Request::Join(JoinGroup { needs_known_id: true, ..join(None) });
    for _ in 0..10_000 {
        let why = refusal(world.ask_now(new()));
        assert!(matches!(why, GroupError::MemberIdRequired(_)), "{why}");
    }
    let why = refusal(world.ask_now(new()));
    assert_eq!(why, GroupError::GroupMaxSizeReached { members_max: 10_000 });
}

#[test]
fn a_coordinator_s_groups_have_an_end_and_those_that_are_there_go_on() {
    let mut world = World::new(Options { groups_max: 2, ..Options::default() });
    let joining = |group: &str| Request::Join(JoinGroup { group: group.into(), ..join(None) });
    let committing = |group: &str| {
        let Request::CommitOffsets(of_g) = commit(None, 0, 5) else { panic!("it commits") };
        Request::CommitOffsets(CommitOffsets { group: group.into(), ..of_g })
    };
    let goes_on = |world: &mut World, group| {
        let answer = world.ask_now(committing(group));
        assert!(matches!(answer, Reply::CommitOffsets(Ok(_))), "{group}: {answer:?}");
    };
    goes_on(&mut world, "a");
    goes_on(&mut world, "b");
    let full = GroupError::TooManyGroups { groups_max: 2 };
    assert_eq!(refusal(world.ask_now(joining("c"))), full);
    assert_eq!(refusal(world.ask_now(committing("c"))), full);
    goes_on(&mut world, "b");

    // A limit that is lowered later takes nothing away.
    world.options.groups_max = 1;
    world.restart(true);
    goes_on(&mut world, "a");
    goes_on(&mut world, "b");
    world.options.groups_max = 2;
    world.restart(true);
    let delete = Request::DeleteGroup(DeleteGroup { group: "b".into() });
    assert_eq!(world.ask_now(delete), Reply::DeleteGroup(Ok(())));
    joined(world.ask_now(joining("c")));

    // One with a very long name counts for more.
    let long = "x".repeat(1_000);
    assert_eq!(refusal(world.ask_now(joining(&long))), full);
    let mut world = World::new(Options { groups_max: 4, ..Options::default() });
    joined(world.ask_now(joining(&long)));
    let full = GroupError::TooManyGroups { groups_max: 4 };
    assert_eq!(refusal(world.ask_now(joining("a"))), full);
}

#[test]
fn what_members_say_has_an_end_and_who_says_no_more_than_before_may_stay() {
    let mut world = World::new(Options { group_bytes_max: 10_000, ..Options::default() });
    let saying = |member_id, group: &str, bytes: usize| {
        let metadata = Bytes::from(vec![b'x'; bytes]);
        let protocols = vec![Protocol { name: "range".into(), metadata }];
        Request::Join(JoinGroup { group: group.into(), protocols, ..join(member_id) })
    };
    let first = joined(world.ask_now(saying(None, "a", 8_000)));
    let full = GroupError::TooManyBytes { bytes_max: 10_000 };
    assert_eq!(refusal(world.ask_now(saying(None, "b", 8_000))), full, "whatever the group");
    let me = || Some(first.member_id.clone());
    assert_eq!(refusal(world.ask_now(saying(me(), "a", 12_000))), full);
    world.options.group_bytes_max = 100;
    world.shard.set_options(world.options.clone());
    assert_eq!(joined(world.ask_now(saying(me(), "a", 7_900))).member_id, first.member_id);
    assert_eq!(
        refusal(world.ask_now(saying(None, "b", 200))),
        GroupError::TooManyBytes { bytes_max: 100 }
    );

    // Whoever goes leaves its room to others.
    world.options.group_bytes_max = 10_000;
    world.shard.set_options(world.options.clone());
    let member = LeavingMember { member_id: me(), instance_id: None };
    let leave = LeaveGroup { group: "a".into(), members: vec![member] };
    assert!(matches!(world.ask_now(Request::Leave(leave)), Reply::Leave(Ok(_))));
    joined(world.ask_now(saying(None, "b", 8_000)));
    world.advance(SESSION_MS / 2);
    assert_eq!(refusal(world.ask_now(saying(None, "a", 8_000))), full);
    world.advance(SESSION_MS);
    joined(world.ask_now(saying(None, "a", 8_000)));
}
