//! Members of a consumer group that join, read, commit, leave, and vanish with their process.

use std::{sync::Arc, time::Duration};

use flumen_actors::broker::{
    Broker,
    consumer::{
        ConsumedTo, Consumer, ConsumerOptions, Deliveries, Delivery, Reads, Records,
        member::MemberOptions,
    },
    names::TopicName,
};
use flumen_runtime::{ids::Offset, rng::Rng, sim::World};
use futures::StreamExt;

use crate::{
    book::Book,
    invariants::{cons_1::Positions, grp_2},
    reader,
};

pub(crate) const GROUP: &str = "readers";

/// One member: its consumer, and where that stands.
struct Member {
    world: World,
    book: Book,
    consumer: Consumer,
    positions: Positions,
}

/// Who becomes a member now and then.
pub(crate) struct Visitor {
    pub(crate) world: World,
    pub(crate) book: Book,
    pub(crate) broker: Broker,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) rng: Rng,
}

impl Visitor {
    /// Comes and goes until its task ends.
    pub(crate) async fn come_and_go(mut self) {
        loop {
            let stay_ms = 500 + self.rng.below(6_000);
            self.stay(stay_ms).await;
            let away = Duration::from_millis(self.rng.below(1_000));
            self.world.pass(away).await;
        }
    }

    /// Comes once.
    pub(crate) async fn come_once(mut self, stay_ms: u64) {
        self.stay(stay_ms).await;
    }

    async fn stay(&mut self, stay_ms: u64) {
        let Visitor { world, book, broker, topics, rng } = self;
        let (mut member, mut deliveries) = Member::join(world, book, broker, topics);
        let leaves = tokio::time::Instant::now() + Duration::from_millis(stay_ms);
        while let Ok(Some(delivery)) = tokio::time::timeout_at(leaves, deliveries.next()).await {
            if member.take(delivery, rng.chance(1, 2)).await.is_err() {
                break;
            }
        }
        if rng.chance(1, 2) {
            member.commit().await;
            member.consumer.close().await;
            book.known().coverage.met("leave", 1);
        }
        // One that was not closed leaves when its stream is dropped.
        drop(deliveries);
    }
}

/// Joins, and stays until the group has read `topics` to their ends.
///
/// # Panics
/// Where that takes too long.
pub(crate) async fn catch_up(world: &World, book: &Book, broker: &Broker, topics: &[TopicName]) {
    let (mut member, mut deliveries) = Member::join(world, book, broker, topics);
    let until = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        if member.has_read_all(topics) {
            break;
        }
        let next = tokio::time::timeout(Duration::from_millis(500), deliveries.next()).await;
        assert!(tokio::time::Instant::now() < until, "no progress: the group does not catch up");
        if let Ok(delivery) = next {
            let delivery = delivery.expect("no progress: the stream of a member has ended");
            let taken = member.take(delivery, false).await;
            taken.expect("no progress: a member is refused though all is well again");
        }
    }
    member.commit().await;
    member.consumer.close().await;
}

impl Member {
    fn join(
        world: &World,
        book: &Book,
        broker: &Broker,
        topics: &[TopicName],
    ) -> (Member, Deliveries) {
        let options = MemberOptions {
            session_timeout_ms: 1_500,
            rebalance_timeout_ms: 3_000,
            ..MemberOptions::new(GROUP, topics.to_vec())
        };
        let consumer = ConsumerOptions { fetch_bytes_max: 16 << 10, ..ConsumerOptions::default() };
        let (consumer, deliveries) =
            Consumer::start(Arc::new(broker.clone()), Reads::Subscribed(options), consumer);
        let (world, book, positions) = (world.clone(), book.clone(), Positions::default());
        (Member { world, book, consumer, positions }, deliveries)
    }

    fn has_read_all(&self, topics: &[TopicName]) -> bool {
        let known = self.book.known();
        let mut partitions = topics.iter().flat_map(|topic| known.high_watermarks.of_topic(topic));
        partitions.all(|(partition, end)| {
            end == Offset::ZERO || self.positions.of(&partition) == Some(end)
        })
    }

    /// Takes in what comes; fails where the group does not have it.
    async fn take(&mut self, delivery: Delivery, commits: bool) -> Result<(), ()> {
        self.world.trace.line(format_args!("member: {delivery:?}"));
        match delivery {
            Delivery::Assigned(all) => {
                let mut known = self.book.known();
                for assigned in all {
                    let (partition, position) = (&assigned.partition, assigned.position);
                    known.commits.check(partition, position);
                    // What it read there is gone, where more was lost than it has to read again.
                    if known.cut_to(partition).is_none_or(|cut_to| position <= cut_to) {
                        grp_2::check(partition, position, known.high_watermarks.of(partition));
                    }
                    known.coverage.met("reload", u64::from(assigned.committed.is_some()));
                    self.positions.begin(partition, position);
                }
            }
            Delivery::Records(records) => {
                self.read(&records);
                if commits {
                    self.commit().await;
                }
            }
            Delivery::Revoking(revocation) => {
                self.commit().await;
                self.book.known().coverage.met("revocation", 1);
                revocation.partitions().iter().for_each(|gone| self.positions.end(gone));
                revocation.finish();
            }
            Delivery::Lost(gone) => {
                self.book.known().coverage.met("lost partition", gone.len() as u64);
                gone.iter().for_each(|gone| self.positions.end(gone));
            }
            // Its disk has failed; another life of the process may mend it.
            Delivery::Unreadable { .. } => return Err(()),
            Delivery::Failed(why) => {
                self.world.trace.line(format_args!("member failed: {why}"));
                return Err(());
            }
        }
        Ok(())
    }

    fn read(&mut self, records: &Records) {
        let mut known = self.book.known();
        let partition = &records.partition;
        let cut_to = known.cut_to(partition);
        self.positions.check(partition, (records.position, records.next), cut_to);
        grp_2::check(partition, records.next, known.high_watermarks.of(partition));
        for (offset, value) in reader::values(&records.batches, records.position) {
            known.reads(partition, offset, value);
        }
    }

    /// Commits all that was read; whether that counts is told later, or never.
    async fn commit(&mut self) {
        let all: Vec<ConsumedTo> = self
            .positions
            .all()
            .map(|(partition, next)| ConsumedTo::new(partition.clone(), next))
            .collect();
        if all.is_empty() {
            return;
        }
        let commit = self.consumer.commit(all.clone());
        let committed = tokio::time::timeout(Duration::from_secs(5), commit).await;
        self.world.trace.line(format_args!("member commits {}: {committed:?}", all.len()));
        if let Ok(Ok(())) = committed {
            let mut known = self.book.known();
            for ConsumedTo { partition, offset, .. } in all {
                if known.cut_to(&partition).is_none_or(|cut_to| offset <= cut_to) {
                    grp_2::check(&partition, offset, known.high_watermarks.of(&partition));
                }
                known.commits.acknowledged(&partition, offset);
            }
            known.coverage.met("commit", 1);
        }
    }
}
