//! What becomes of records whose partition goes while they are taken in.

use bytes::Bytes;
use flumen_actors::broker::names::TopicName;
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    credit::Credit,
};

use super::*;
use crate::{
    stream::{
        Operators, changelog,
        fold::{Fold, Tally},
        testing::{on_a_node, partition},
    },
    typed::Raw,
};

#[test]
fn a_partition_that_goes_where_it_is_finished_in_between_is_not_read_on() {
    on_a_node(async |node| {
        let broker = node.broker().clone();
        let tally = Tally::default();
        // Each record makes so much that it is finished at once.
        let large = |line: Bytes| (String::from_utf8_lossy(&line).repeat(FINISH_BYTES), 1);
        let operators = Operators::read(Raw).map(large);
        let changelog = TopicName::new(&changelog::name("p/s")).unwrap();
        let mut fold = Fold::new("p/s", changelog, operators, broker.clone(), tally.clone());
        let input = partition("t", 0);
        fold.begin(&input, Begin::at(Offset::ZERO)).await.unwrap();

        let topics = vec![input.topic.clone()];
        let options = StageOptions {
            name: "s".into(),
            broker: broker.clone(),
            member: MemberOptions::new("p/s", topics),
            consumer: ConsumerOptions::default(),
            commit_interval: Duration::ZERO,
            outlet: Arc::new(|| unreachable!("it has one")),
            observer: None,
            progress: Progress::default(),
        };
        // It has no partition, and so none may be committed.
        let reads = Reads::Partitions { partitions: Vec::new(), group: None };
        let (consumer, _deliveries) =
            Consumer::start(Arc::new(broker), reads, ConsumerOptions::default());
        let outlet = Box::new(fold);
        let mut life = Life { options, consumer, outlet, taken: BTreeMap::new(), bytes: 0 };
        let mut batch = BatchBuilder::new(0);
        for value in [b"a", b"b", b"c"] {
            batch.push(RecordRef { value: Some(value), ..RecordRef::default() });
        }
        let records = Records {
            partition: input,
            position: Offset::ZERO,
            next: Offset(3),
            batches: vec![batch.build().freeze()],
            high_watermark: Offset(3),
            permit: Credit::new(1, 1).try_acquire(1, 1).unwrap(),
        };
        life.take(&records).await.unwrap();
        assert!(life.taken.is_empty(), "nothing of it is left to be finished");
        let names = tally.total().into_keys().map(|name| name[..1].to_owned());
        assert_eq!(names.collect::<Vec<_>>(), ["a"], "what was finished before is kept");
    });
}
