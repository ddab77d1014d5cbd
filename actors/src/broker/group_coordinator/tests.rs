//! The actor on a partition that is a vector.

use std::{cell::RefCell, rc::Rc};

use bytes::{Bytes, BytesMut};
use flumen_runtime::{batch, clock::ManualClock, ids::LeaderEpoch};

use super::{
    ids::{GenerationId, MemberId},
    messages::*,
    *,
};
use crate::broker::{
    names::{PartitionId, TopicName, TopicPartition},
    partition::{
        marks::Marks,
        messages::{FetchError, Fetched, OfflineError},
    },
};

/// What the partition holds, and how it behaves; outlives the actors on both sides.
#[derive(Default)]
struct Disk {
    batches: Vec<Bytes>,
    end: Offset,
    is_offline: bool,
    is_full: bool,
    /// Writes, and dies before it answers.
    forgets_answer: bool,
}

struct Log(Rc<RefCell<Disk>>);

impl Actor for Log {
    type Context = Context<Self>;
}

fn tp(topic: &str) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionId(0) }
}

fn offline() -> OfflineError {
    OfflineError {
        partition: tp("__consumer_offsets"),
        reason: "a test says so".into(),
        remedy: "wait".into(),
        is_passing: true,
    }
}

impl Disk {
    fn append(&mut self, mut bytes: BytesMut) -> Appended {
        let base_offset = self.end;
        let batches: Vec<_> =
            batch::split(&bytes).map(|batch| batch.unwrap().0.batch_bytes as usize).collect();
        for length in batches {
            let mut one = bytes.split_to(length);
            batch::stamp(&mut one, self.end, LeaderEpoch(0));
            let header = batch::BatchHeader::parse(&one).unwrap();
            batch::check(&one, &header).unwrap();
            self.end = header.next_offset();
            self.batches.push(one.freeze());
        }
        let last_offset = Offset(self.end.0 - 1);
        let log_start = Offset::ZERO;
        Appended {
            base_offset,
            last_offset,
            timestamp_ms: -1,
            is_append_time: false,
            log_start,
            is_duplicate: false,
        }
    }
}

impl Handler<Append> for Log {
    type Result = Answering<Result<Appended, AppendError>>;

    fn handle(&mut self, append: Append, _: &mut Self::Context) -> Self::Result {
        let (answer, answering) = answer::later();
        let mut disk = self.0.borrow_mut();
        if disk.is_offline {
            answer.give(Err(offline().into()));
        } else if disk.is_full {
            answer.give(Err(AppendError::DiskFull(tp("__consumer_offsets"))));
        } else {
            let appended = disk.append(append.batches);
            if !std::mem::take(&mut disk.forgets_answer) {
                answer.give(Ok(appended));
            }
        }
        answering
    }
}

impl Handler<Fetch> for Log {
    type Result = Result<Fetched, FetchError>;

    fn handle(&mut self, fetch: Fetch, _: &mut Self::Context) -> Self::Result {
        let disk = self.0.borrow();
        if disk.is_offline {
            return Err(offline().into());
        }
        let end = disk.end;
        let ends_later =
            |batch: &&Bytes| batch::BatchHeader::parse(batch).unwrap().next_offset() > fetch.offset;
        // One at a time, so that loading takes several fetches.
        let batches = disk.batches.iter().find(ends_later).cloned().into_iter().collect();
        let marks = Marks {
            log_start: Offset::ZERO,
            last_stable: end,
            high_watermark: end,
            durable_end: end,
            log_end: end,
        };
        Ok(Fetched { batches, marks, ..Fetched::default() })
    }
}

struct Bench {
    disk: Rc<RefCell<Disk>>,
    log: Addr<Log>,
    lives: u64,
}

impl Bench {
    fn new() -> Self {
        tokio::time::pause();
        let disk = Rc::new(RefCell::new(Disk::default()));
        let log = Log(disk.clone()).start();
        Self { disk, log, lives: 0 }
    }

    fn coordinator(&mut self) -> Addr<GroupCoordinator> {
        self.lives += 1;
        let log =
            GroupLog { append: self.log.clone().recipient(), fetch: self.log.clone().recipient() };
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let (_, options) = tokio::sync::watch::channel(Options::default());
        GroupCoordinator::new(log, options, clock, Rng::seeded(self.lives)).start()
    }
}

async fn ask<M>(to: &Addr<GroupCoordinator>, request: M) -> Result<M::Result, MailboxError>
where
    M: Message + Send + 'static,
    M::Result: Send,
    GroupCoordinator: Handler<M>,
{
    to.send(request).await
}

/// Asks until the coordinator has loaded.
async fn loaded(to: &Addr<GroupCoordinator>) -> Vec<ListedGroup> {
    loop {
        match to.send(ListGroups::default()).await.unwrap() {
            Ok(listed) => return listed,
            Err(why) => assert_eq!(why, GroupError::CoordinatorLoadInProgress),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn commit(group: &str, offset: u64) -> CommitOffsets {
    CommitOffsets {
        group: group.into(),
        generation: None,
        member_id: None,
        instance_id: None,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            partition: tp("t"),
            topic_id: None,
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "state".into(),
        }],
    }
}

async fn committed(to: &Addr<GroupCoordinator>, group: &str) -> Option<u64> {
    let request = FetchOffsets { group: group.into(), partitions: Some(vec![tp("t")]) };
    let fetched = to.send(request).await.unwrap().unwrap();
    fetched.partitions[0].1.as_ref().map(|offset| offset.offset.0)
}

fn join(member_id: Option<MemberId>) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        member_id,
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        needs_known_id: false,
        can_skip_assignment: true,
    }
}

async fn stable(to: &Addr<GroupCoordinator>) -> JoinedGroup {
    let joined = ask(to, join(None)).await.unwrap().unwrap();
    let sync = SyncGroup {
        group: "g".into(),
        generation: Some(joined.generation),
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"a"))],
    };
    assert_eq!(ask(to, sync).await.unwrap().unwrap().assignment.as_ref(), b"a");
    joined
}

fn heartbeat(member_id: &MemberId, generation: GenerationId) -> Heartbeat {
    let (member_id, generation) = (member_id.clone(), Some(generation));
    Heartbeat { group: "g".into(), generation, member_id, instance_id: None }
}

#[actix_rt::test]
async fn what_was_acknowledged_is_there_when_another_coordinator_reads_the_log() {
    let mut bench = Bench::new();
    let first = bench.coordinator();
    loaded(&first).await;
    let member = stable(&first).await;
    for offset in 1..=40 {
        ask(&first, commit("other", offset)).await.unwrap().unwrap();
    }
    let second = bench.coordinator();
    let early = ask(&second, commit("other", 99)).await.unwrap();
    assert_eq!(early, Err(GroupError::CoordinatorLoadInProgress));
    assert_eq!(loaded(&second).await.len(), 2);
    assert_eq!(committed(&second, "other").await, Some(40));
    let beat = ask(&second, heartbeat(&member.member_id, member.generation)).await.unwrap();
    assert_eq!(beat, Ok(()));
}

#[actix_rt::test]
async fn commits_that_come_together_are_appended_together() {
    let mut bench = Bench::new();
    let coordinator = bench.coordinator();
    loaded(&coordinator).await;
    let commits = (1..=100).map(|offset| coordinator.send(commit("g", offset)));
    for answer in futures::future::join_all(commits).await {
        answer.unwrap().unwrap();
    }
    assert_eq!(committed(&coordinator, "g").await, Some(100));
    assert_eq!(bench.disk.borrow().end, Offset(100));
    assert!(bench.disk.borrow().batches.len() < 60, "{}", bench.disk.borrow().batches.len());
}

#[actix_rt::test]
async fn a_silent_member_is_gone_after_its_session_timeout() {
    let mut bench = Bench::new();
    let coordinator = bench.coordinator();
    loaded(&coordinator).await;
    let member = stable(&coordinator).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let beat = heartbeat(&member.member_id, member.generation);
    assert_eq!(ask(&coordinator, beat.clone()).await.unwrap(), Ok(()));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(ask(&coordinator, beat).await.unwrap(), Err(GroupError::UnknownMemberId));
}

#[actix_rt::test]
async fn while_the_disk_is_full_commits_are_refused_and_members_stay() {
    let mut bench = Bench::new();
    let coordinator = bench.coordinator();
    loaded(&coordinator).await;
    let member = stable(&coordinator).await;
    bench.disk.borrow_mut().is_full = true;
    let refused = ask(&coordinator, commit("other", 1)).await.unwrap();
    assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(committed(&coordinator, "other").await, None);
    let beat = heartbeat(&member.member_id, member.generation);
    assert_eq!(ask(&coordinator, beat).await.unwrap(), Ok(()));
    bench.disk.borrow_mut().is_full = false;
    ask(&coordinator, commit("other", 2)).await.unwrap().unwrap();
    assert_eq!(committed(&coordinator, "other").await, Some(2));
}

#[actix_rt::test]
async fn an_append_without_an_answer_is_found_by_reading_the_log_anew() {
    let mut bench = Bench::new();
    let coordinator = bench.coordinator();
    loaded(&coordinator).await;
    ask(&coordinator, commit("g", 1)).await.unwrap().unwrap();
    bench.disk.borrow_mut().forgets_answer = true;
    let lost = ask(&coordinator, commit("g", 2)).await.unwrap();
    assert_eq!(lost, Err(GroupError::CoordinatorNotAvailable));
    loaded(&coordinator).await;
    assert_eq!(committed(&coordinator, "g").await, Some(2), "it was written after all");
    ask(&coordinator, commit("g", 3)).await.unwrap().unwrap();
}

#[actix_rt::test]
async fn while_its_partition_is_offline_a_coordinator_keeps_trying() {
    let mut bench = Bench::new();
    bench.disk.borrow_mut().is_offline = true;
    let coordinator = bench.coordinator();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let answer = ask(&coordinator, ListGroups::default()).await.unwrap();
    assert_eq!(answer, Err(GroupError::CoordinatorLoadInProgress));
    bench.disk.borrow_mut().is_offline = false;
    assert_eq!(loaded(&coordinator).await.len(), 0);
    ask(&coordinator, commit("g", 1)).await.unwrap().unwrap();
}

#[actix_rt::test]
async fn a_superseded_coordinators_write_is_noticed_and_nothing_of_it_is_lost() {
    let mut bench = Bench::new();
    let (first, second) = (bench.coordinator(), bench.coordinator());
    loaded(&first).await;
    loaded(&second).await;
    ask(&first, commit("g", 1)).await.unwrap().unwrap();
    let refused = ask(&second, commit("h", 2)).await.unwrap();
    assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable), "GRP-8");
    loaded(&second).await;
    assert_eq!(committed(&second, "g").await, Some(1));
    assert_eq!(committed(&second, "h").await, Some(2));
}

#[actix_rt::test]
async fn draining_waits_for_what_is_being_written() {
    let mut bench = Bench::new();
    let coordinator = bench.coordinator();
    loaded(&coordinator).await;
    let commit = coordinator.send(commit("g", 1));
    let drained = coordinator.send(Drain);
    drained.await.unwrap();
    assert_eq!(bench.disk.borrow().end, Offset(1));
    commit.await.unwrap().unwrap();
}
