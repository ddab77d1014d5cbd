//! The topics there are, as everybody on the node reads them: found by name, and by id.

use std::{collections::BTreeMap, ops::Deref};

use uuid::Uuid;

use super::{catalogue::state::Topic, names::TopicName};

/// Topics by name, and the names by id: clients of late name topics by their ids only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<TopicName, Topic>,
    names: BTreeMap<Uuid, TopicName>,
}

impl Topics {
    /// The topic whose id is `id`.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<&Topic> {
        self.by_name.get(self.names.get(&id)?)
    }
}

impl Deref for Topics {
    type Target = BTreeMap<TopicName, Topic>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<T: IntoIterator<Item = Topic>>(topics: T) -> Self {
        let by_name: BTreeMap<TopicName, Topic> =
            topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        let names = by_name.values().map(|topic| (topic.id, topic.name.clone())).collect();
        Self { by_name, names }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::Settings;

    fn topic(id: u128, name: &str) -> Topic {
        let (id, name) = (Uuid::from_u128(id), TopicName::new(name).unwrap());
        Topic {
            id,
            name,
            partitions: Arc::default(),
            settings: Settings::default(),
            is_internal: false,
        }
    }

    #[test]
    fn a_topic_is_found_by_its_name_and_by_its_id() {
        let topics: Topics = [topic(7, "b"), topic(8, "a")].into_iter().collect();
        for (id, name) in [(7, "b"), (8, "a")] {
            assert_eq!(topics.by_id(Uuid::from_u128(id)), topics.get(&name.parse().unwrap()));
            assert_eq!(topics.by_id(Uuid::from_u128(id)).unwrap().name.as_str(), name);
        }
        assert_eq!(topics.by_id(Uuid::nil()), None);
    }
}
