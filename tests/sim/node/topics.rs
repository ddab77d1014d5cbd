//! An administrator that makes, grows and deletes topics, and what the catalogue must say then.

use std::{cell::RefCell, rc::Rc, time::Duration};

use flumen_actors::broker::{Broker, TopicSpec, names::TopicName};
use flumen_runtime::{rng::Rng, sim::World};

use crate::book::Book;

/// Names that it makes and deletes again.
const NAMES: u64 = 4;
const PARTITIONS_MAX: u32 = 3;

/// Changes the catalogue until its task ends.
pub(crate) async fn administer(
    world: World,
    book: Book,
    broker: Broker,
    grows: TopicName,
    rng: Rc<RefCell<Rng>>,
) {
    loop {
        let (number, pause) = {
            let mut rng = rng.borrow_mut();
            (rng.below(NAMES + 1), rng.below(1_500))
        };
        world.pass(Duration::from_millis(pause)).await;
        let topic = match number {
            0 => grows.clone(),
            number => TopicName::new(&format!("made-{number}")).expect("it is a name"),
        };
        let Some(now) = book.known().changes.of(&topic) else { continue };
        let then = match now {
            Some(_) if topic != grows => None,
            Some(count) if count == PARTITIONS_MAX => continue,
            Some(count) => Some(count + 1),
            None => Some(1 + rng.borrow_mut().below(2) as u32),
        };
        book.known().changes.asked(&topic, then);
        let changed = match (now, then) {
            (None, Some(count)) => {
                let spec = TopicSpec::new(topic.as_str(), count).expect("it is a name");
                broker.create_topic(spec).await.map(drop)
            }
            (_, Some(count)) => broker.grow_topic(&topic, count).await.map(drop),
            (_, None) => broker.delete_topic(&topic).await.map(drop),
        };
        world.trace.line(format_args!("`{topic}` from {now:?} to {then:?}: {changed:?}"));
        let mut known = book.known();
        if changed.is_ok() {
            known.changes.acknowledged(&topic, then);
            let what = match (now, then) {
                (None, _) => "topic made",
                (_, None) => "topic deleted",
                _ => "topic grown",
            };
            known.coverage.met(what, 1);
        }
        known.changes.check(&broker.topics());
    }
}
