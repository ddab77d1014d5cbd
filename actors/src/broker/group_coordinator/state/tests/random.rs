//! Members that come, go, crash and lose answers, under a coordinator that dies and is refused.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::broker::group_coordinator::{
    assignor::{Assignor, SubscribedMember},
    protocol::Assignment,
};

const PARTITIONS: u32 = 5;

#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    Joining(ReplyId),
    Syncing(ReplyId, JoinedGroup),
    Reading(JoinedGroup, Vec<TopicPartition>),
}

/// A client with the loop that every consumer has.
#[derive(Clone, Debug)]
struct Client {
    member_id: Option<MemberId>,
    doing: Doing,
}

#[derive(Clone, Debug)]
enum Action {
    Act(usize),
    Leave(usize),
    Crash(usize),
    Commit(usize),
    StaleCommit(usize),
    Pass(u64),
    Settle,
    Refuse,
    Restart(bool),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0_usize..5).prop_map(Action::Act),
        1 => (0_usize..5).prop_map(Action::Leave),
        1 => (0_usize..5).prop_map(Action::Crash),
        3 => (0_usize..5).prop_map(Action::Commit),
        1 => (0_usize..5).prop_map(Action::StaleCommit),
        3 => (1_u64..9_000).prop_map(Action::Pass),
        6 => Just(Action::Settle),
        1 => Just(Action::Refuse),
        1 => any::<bool>().prop_map(Action::Restart),
    ]
}

struct Play {
    world: World,
    clients: Vec<Client>,
    /// What was assigned in each generation: no partition twice.
    assigned: BTreeMap<GenerationId, BTreeMap<TopicPartition, MemberId>>,
    /// Commits that were answered or may still be, by partition; the log's order decides.
    acknowledged: BTreeMap<u32, u64>,
    open_commits: Vec<(ReplyId, u32, u64)>,
    next_offset: u64,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new(Options::default());
        world.holds_commits = true;
        let clients = vec![Client { member_id: None, doing: Doing::Nothing }; 5];
        let (assigned, acknowledged) = (BTreeMap::new(), BTreeMap::new());
        Self { world, clients, assigned, acknowledged, open_commits: Vec::new(), next_offset: 0 }
    }

    fn act(&mut self, index: usize) {
        let client = self.clients[index].clone();
        self.clients[index].doing = match client.doing {
            Doing::Nothing => {
                let request = JoinGroup {
                    needs_known_id: client.member_id.is_none(),
                    ..join(client.member_id)
                };
                Doing::Joining(self.world.ask(Request::Join(request)))
            }
            Doing::Joining(id) => match self.world.replies.remove(&id) {
                None if self.world.open.contains(&id) => Doing::Joining(id),
                None => Doing::Nothing,
                Some(Reply::Join(Ok(joined))) => {
                    let assignments = assign(&joined);
                    Doing::Syncing(self.world.ask(sync(&joined, assignments)), joined)
                }
                Some(reply) => self.refused(index, refusal(reply)),
            },
            Doing::Syncing(id, joined) => match self.world.replies.remove(&id) {
                None if self.world.open.contains(&id) => Doing::Syncing(id, joined),
                None => Doing::Nothing,
                Some(Reply::Sync(Ok(synced))) => {
                    let mine = Assignment::decode(&synced.assignment).unwrap().partitions;
                    let owners = self.assigned.entry(joined.generation).or_default();
                    for partition in &mine {
                        let owner = owners.insert(partition.clone(), joined.member_id.clone());
                        let is_mine = owner.is_none_or(|owner| owner == joined.member_id);
                        assert!(is_mine, "GRP-1: {partition} in {}", joined.generation);
                    }
                    Doing::Reading(joined, mine)
                }
                Some(reply) => self.refused(index, refusal(reply)),
            },
            Doing::Reading(joined, mine) => {
                let beat = heartbeat(&joined.member_id, joined.generation);
                match self.world.ask_now(beat) {
                    Reply::Heartbeat(Ok(())) => Doing::Reading(joined, mine),
                    reply => self.refused(index, refusal(reply)),
                }
            }
        };
        if let Doing::Reading(joined, _) | Doing::Syncing(_, joined) = &self.clients[index].doing {
            self.clients[index].member_id = Some(joined.member_id.clone());
        }
    }

    fn refused(&mut self, index: usize, why: GroupError) -> Doing {
        match why {
            GroupError::MemberIdRequired(id) => self.clients[index].member_id = Some(id),
            GroupError::UnknownMemberId => self.clients[index].member_id = None,
            GroupError::RebalanceInProgress
            | GroupError::IllegalGeneration
            | GroupError::CoordinatorNotAvailable => {}
            other => panic!("{other}"),
        }
        Doing::Nothing
    }

    fn commit(&mut self, index: usize, is_stale: bool) {
        let Doing::Reading(joined, mine) = &self.clients[index].doing else { return };
        let Some(partition) = mine.first().map(|partition| partition.partition.0) else { return };
        let generation = GenerationId(joined.generation.0 - u32::from(is_stale));
        self.next_offset += 1;
        let request = commit(Some((&joined.member_id, generation)), partition, self.next_offset);
        let id = self.world.ask(request);
        assert!(!is_stale || refusal_of_commit(&self.world, id), "a stale commit was taken");
        self.open_commits.push((id, partition, self.next_offset));
    }

    fn settle_commits(&mut self) {
        let open = std::mem::take(&mut self.open_commits);
        for (id, partition, offset) in open {
            match self.world.replies.remove(&id) {
                Some(Reply::CommitOffsets(Ok(_))) => {
                    self.acknowledged.insert(partition, offset);
                }
                None if self.world.open.contains(&id) => {
                    self.open_commits.push((id, partition, offset));
                }
                // Lost with the coordinator: it may stand in the log all the same.
                None => {
                    self.acknowledged.remove(&partition);
                }
                Some(_) => {}
            }
        }
        for (partition, offset) in self.acknowledged.clone() {
            let found = self.world.fetch(partition).map(|offset| offset.offset.0);
            assert_eq!(found, Some(offset), "partition {partition}");
        }
    }

    fn play(&mut self, action: Action) {
        match action {
            Action::Act(index) => self.act(index),
            Action::Leave(index) => {
                if let Some(member_id) = self.clients[index].member_id.take() {
                    self.world.ask(leave(&member_id));
                }
                self.clients[index].doing = Doing::Nothing;
            }
            Action::Crash(index) => {
                self.clients[index] = Client { member_id: None, doing: Doing::Nothing };
            }
            Action::Commit(index) => self.commit(index, false),
            Action::StaleCommit(index) => self.commit(index, true),
            Action::Pass(ms) => self.world.advance(ms),
            Action::Settle => self.world.commit(),
            Action::Refuse => self.world.refuse(),
            Action::Restart(keeps) => self.world.restart(keeps),
        }
        self.settle_commits();
    }

    /// Everyone behaves for a while: the group must become stable, with exactly these members.
    fn heal(&mut self) {
        self.world.holds_commits = false;
        self.world.commit();
        for _ in 0..60 {
            for index in 0..self.clients.len() {
                self.act(index);
            }
            self.world.advance(2_000);
        }
        let described = self.world.describe().expect("the group is there");
        assert_eq!(described.state, GroupState::Stable);
        let here: BTreeSet<_> = described.members.into_iter().map(|m| m.member_id).collect();
        let ours: BTreeSet<_> =
            self.clients.iter().filter_map(|client| client.member_id.clone()).collect();
        assert_eq!((ours.len(), &here), (self.clients.len(), &ours));
        let mut read = BTreeSet::new();
        for client in &self.clients {
            let Doing::Reading(joined, mine) = &client.doing else { panic!("{client:?}") };
            assert_eq!(joined.generation, described.generation);
            read.extend(mine.iter().cloned());
        }
        assert_eq!(read.len(), PARTITIONS as usize, "every partition is read");
        self.settle_commits();
        self.world.advance(REBALANCE_MS);
        assert!(self.world.open.is_empty(), "unanswered: {:?}", self.world.open);
    }
}

fn refusal_of_commit(world: &World, id: ReplyId) -> bool {
    matches!(world.replies.get(&id), Some(Reply::CommitOffsets(Err(_))))
}

fn assign(joined: &JoinedGroup) -> Vec<(MemberId, Bytes)> {
    let describe = |member: &JoinedMember| SubscribedMember {
        member_id: member.member_id.clone(),
        instance_id: None,
        subscription: Subscription::decode(&member.metadata).unwrap(),
    };
    let members: Vec<_> = joined.members.iter().map(describe).collect();
    let topics = BTreeMap::from([(TopicName::new("t").unwrap(), PARTITIONS)]);
    let assignments = Assignor::Range.assign(&members, &topics);
    assignments.into_iter().map(|(id, mine)| (id, Assignment::of(mine).encode())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_no_partition_has_two_readers_no_commit_is_lost_and_the_group_heals(
        actions in proptest::collection::vec(action(), 0..120),
    ) {
        let mut play = Play::new();
        for action in actions {
            play.play(action);
        }
        play.heal();
    }
}
