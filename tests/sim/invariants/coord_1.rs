//! Each acknowledged change of the catalogue is there ever after (COORD-1); one whose answer was lost
//! is there or not, and stays so.

use std::collections::{BTreeMap, BTreeSet};

use flumen_actors::broker::{Topics, names::TopicName};

/// How many partitions a topic has; none where there is no such topic.
type State = Option<u32>;

/// What the catalogue must say.
#[derive(Default)]
pub(crate) struct Changes {
    known: BTreeMap<TopicName, State>,
    /// Changes that may have been made.
    open: BTreeMap<TopicName, BTreeSet<State>>,
}

impl Changes {
    /// How `topic` is, unless a change of it may or may not have been made.
    pub(crate) fn of(&self, topic: &TopicName) -> Option<State> {
        let is_open = self.open.contains_key(topic);
        (!is_open).then(|| self.known.get(topic).copied().flatten())
    }

    /// A change of `topic` is asked for.
    pub(crate) fn asked(&mut self, topic: &TopicName, then: State) {
        self.open.entry(topic.clone()).or_default().insert(then);
    }

    /// It was acknowledged.
    pub(crate) fn acknowledged(&mut self, topic: &TopicName, then: State) {
        self.open.remove(topic);
        self.known.insert(topic.clone(), then);
    }

    /// Compares with what the catalogue says.
    pub(crate) fn check(&self, topics: &Topics) {
        for topic in self.known.keys().chain(self.open.keys()) {
            let now = topics.get(topic).map(|topic| topic.partitions.len() as u32);
            let known = self.known.get(topic).copied().flatten();
            let is_open = self.open.get(topic).is_some_and(|states| states.contains(&now));
            assert!(now == known || is_open, "COORD-1: `{topic}` was {known:?}, and is {now:?}");
        }
    }

    /// After a restart what may have been made was made or not.
    pub(crate) fn settle(&mut self, topics: &Topics) {
        self.check(topics);
        for (topic, _) in std::mem::take(&mut self.open) {
            let now = topics.get(&topic).map(|topic| topic.partitions.len() as u32);
            self.known.insert(topic, now);
        }
    }
}

#[test]
#[should_panic(expected = "COORD-1")]
fn a_change_that_is_gone_is_found() {
    let mut changes = Changes::default();
    changes.acknowledged(&TopicName::new("t").expect("it is a name"), Some(1));
    changes.check(&Topics::default());
}
