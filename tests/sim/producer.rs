//! An idempotent producer, as a client on another machine: it keeps up to five batches in flight,
//! and repeats them in their order until they are acknowledged, also over a restart of the node.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use actix::Addr;
use bytes::BytesMut;
use flumen_actors::broker::{
    names::{Acks, ProducerId, TopicPartition},
    partition::{
        Partition,
        messages::{Append, AppendError, Appended},
        producers::RECENT_MAX,
    },
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    rng::Rng,
    sim::World,
};
use futures::future::join_all;

use crate::{book::Book, oracle::Value};

/// A batch that was sent and is not known to be there.
struct Unsettled {
    first_sequence: i32,
    values: Vec<Value>,
    padding: usize,
    /// How often it was sent.
    sent: u32,
}

/// The producer of one partition.
pub(crate) struct Producer {
    number: u32,
    pub(crate) partition: TopicPartition,
    rng: Rng,
    book: Book,
    epoch: i16,
    /// Whether something of its epoch was acknowledged.
    is_known: bool,
    next_sequence: i32,
    unsettled: VecDeque<Unsettled>,
    /// Most bytes that pad a record.
    padding_max: u64,
    /// Whether it hardly rests, and sends much, so that something is on its way to the disk at most
    /// moments.
    pub(crate) is_in_a_hurry: bool,
}

/// A producer that its own tasks of several lives of the node share.
pub(crate) type Shared = Rc<RefCell<Producer>>;

impl Producer {
    pub(crate) fn new(world: &World, number: u32, partition: TopicPartition, book: Book) -> Shared {
        let mut rng = world.rng.split(&format!("producer {number} of {partition}"));
        let padding_max = [0, 50, 400, 3000][rng.below(4) as usize];
        let unsettled = VecDeque::new();
        let (epoch, next_sequence) = (0, 0);
        Rc::new(RefCell::new(Producer {
            number,
            partition,
            rng,
            book,
            epoch,
            is_known: false,
            next_sequence,
            unsettled,
            padding_max,
            is_in_a_hurry: false,
        }))
    }

    /// Fills the window with new batches; not while one has to be repeated, as in Kafka's client
    /// (`RecordAccumulator.shouldStopDrainBatchesForPartition`).
    fn fill(&mut self) {
        if !self.unsettled.is_empty() {
            return;
        }
        // A producer that is not known may begin anywhere: were the first batch lost on its way, the
        // second would be taken for its beginning.
        let most = if self.is_known { RECENT_MAX as u64 } else { 1 };
        let wanted = 1 + self.rng.below(most) as usize;
        while self.unsettled.len() < wanted {
            let count = 1 + self.rng.below(4) as i32;
            let mut known = self.book.known();
            let ledger = known.ledgers.entry(self.partition.clone()).or_default();
            let values = (0..count).map(|_| ledger.next(self.number)).collect();
            // What spans pages can be torn.
            let most = if self.is_in_a_hurry { 8_000 } else { self.padding_max };
            let padding = self.rng.below(most + 1) as usize;
            let first_sequence = self.next_sequence;
            self.next_sequence += count;
            self.unsettled.push_back(Unsettled { first_sequence, values, padding, sent: 0 });
        }
    }

    fn batches(&mut self, now_ms: i64) -> Vec<BytesMut> {
        let (id, epoch) = (self.id().0, self.epoch);
        let encode = |batch: &mut Unsettled| {
            batch.sent += 1;
            let mut builder = BatchBuilder::new(now_ms).producer(id, epoch, batch.first_sequence);
            for value in &batch.values {
                let bytes = value.to_bytes(batch.padding);
                let value = Some(&bytes[..]);
                builder.push(RecordRef { timestamp: now_ms, key: None, value, headers: &[] });
            }
            builder.build()
        };
        self.unsettled.iter_mut().map(encode).collect()
    }

    fn rest(&mut self, settled: bool) -> Duration {
        let most = if settled { 300 } else { 400 };
        Duration::from_millis(self.rng.below(if self.is_in_a_hurry { 5 } else { most }))
    }

    fn id(&self) -> ProducerId {
        ProducerId(i64::from(self.number))
    }

    /// The answers to the whole window, in its order.
    fn settle(&mut self, answers: Vec<Option<Result<Appended, AppendError>>>) {
        let mut open = VecDeque::new();
        let mut is_behind = false;
        let mut known = self.book.known();
        for (batch, answer) in std::mem::take(&mut self.unsettled).into_iter().zip(answers) {
            let is_first = open.is_empty();
            match answer {
                Some(Ok(appended)) => {
                    self.is_known = true;
                    let count = batch.values.len() as u64;
                    let last = appended.base_offset.0 + count - 1;
                    assert_eq!(appended.last_offset.0, last, "an answer for another batch");
                    known.coverage.met("dedupe", u64::from(appended.is_duplicate));
                    let ledger = known.ledgers.entry(self.partition.clone()).or_default();
                    for (offset, value) in (appended.base_offset.0..).zip(batch.values) {
                        ledger.acknowledge(offset, value);
                    }
                }
                // Its last batches are gone, as they may be, and those that were on their way do not
                // follow what is left.
                Some(Err(AppendError::Sequence(_)))
                    if is_first && known.cut_to(&self.partition).is_some() =>
                {
                    is_behind = true;
                    open.push_back(batch);
                }
                Some(Err(AppendError::Sequence(error))) if is_first => {
                    panic!("PROD-2: a producer that repeats its last five in order: {error}")
                }
                // Refused because the one before it was, or for now, or nobody knows.
                Some(Err(_)) | None => open.push_back(batch),
            }
        }
        drop(known);
        self.unsettled = open;
        if is_behind {
            self.begin_anew();
        }
    }

    /// Gives up what is on its way, which may be there or not, and goes on in another epoch, as
    /// Kafka's client does where its application lets it.
    fn begin_anew(&mut self) {
        self.unsettled.clear();
        (self.epoch, self.next_sequence, self.is_known) = (self.epoch + 1, 0, false);
        self.book.known().coverage.met("producer that begins anew", 1);
    }
}

/// One round: sends the window, and takes the answers. True where all of it was acknowledged.
pub(crate) async fn round(producer: &Shared, to: &Addr<Partition>, world: &World) -> bool {
    let batches = producer.borrow_mut().batches(world.now_ms());
    let sent = batches.into_iter().map(|batch| to.send(Append::new(batch).acks(Acks::InSync)));
    let answers: Vec<_> = join_all(sent).await.into_iter().map(Result::ok).collect();
    let mut producer = producer.borrow_mut();
    for (batch, answer) in producer.unsettled.iter().zip(&answers) {
        let (partition, number, first) =
            (&producer.partition, producer.number, batch.first_sequence);
        let what = format_args!("producer {number} of {partition}, sequence {first}: {answer:?}");
        world.trace.line(what);
    }
    producer.settle(answers);
    producer.unsettled.is_empty()
}

/// Produces until its task ends.
pub(crate) async fn produce(producer: Shared, to: Addr<Partition>, world: World) {
    loop {
        producer.borrow_mut().fill();
        let settled = round(&producer, &to, &world).await;
        let rest = producer.borrow_mut().rest(settled);
        world.pass(rest).await;
    }
}

/// Sends until everything that was ever sent is acknowledged.
///
/// # Panics
/// Where that takes too long: the node makes no progress though nothing is wrong any more.
pub(crate) async fn finish(producer: &Shared, to: &Addr<Partition>, world: &World) {
    for _ in 0..100 {
        if round(producer, to, world).await {
            return;
        }
        world.pass(Duration::from_millis(200)).await;
    }
    panic!("no progress: {} takes nothing though all is well again", producer.borrow().partition);
}
