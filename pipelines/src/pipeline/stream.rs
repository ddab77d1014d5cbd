//! The stream's side of the builder: topic → operators → topic or sink.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use flumen_actors::broker::{TopicSpec, names::TopicName};
use flumen_runtime::batch::RecordView;

use super::{MakeOutlet, Pipeline, StagePlan};
use crate::{
    stream::{
        Operators, changelog,
        each::Each,
        files::Files,
        fold::{Fold, Tally},
        outlet::Outlet,
        to_topic::ToTopic,
        worker::Observer,
    },
    topology::Kind,
    typed::Format,
};

/// Values of type `T` on their way from a topic.
pub struct Stream<'p, T> {
    pipeline: &'p mut Pipeline,
    topic: String,
    last: String,
    members: usize,
    observer: Option<Observer>,
    operators: Operators<T>,
}

impl<'p, T: 'static> Stream<'p, T> {
    pub(super) fn new(pipeline: &'p mut Pipeline, topic: &str, operators: Operators<T>) -> Self {
        let (topic, last) = (topic.to_owned(), topic.to_owned());
        Self { pipeline, topic, last, members: 1, observer: None, operators }
    }

    /// With so many members in the stage's group, on this node; they share the topic's partitions.
    #[must_use]
    pub fn members(mut self, members: usize) -> Self {
        self.members = members.max(1);
        self
    }

    /// Shows every record to `see` as it is taken in, before the operators: for measurements.
    #[must_use]
    pub fn observe(mut self, see: impl Fn(&RecordView<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(see));
        self
    }

    fn then<U>(
        self,
        name: &str,
        what: &str,
        operator: impl FnOnce(Operators<T>) -> Operators<U>,
    ) -> Stream<'p, U> {
        let Self { pipeline, topic, last, members, observer, operators } = self;
        pipeline.topology.add(Kind::Operator, name, what);
        pipeline.topology.connect(&last, name);
        let (last, operators) = (name.to_owned(), operator(operators));
        Stream { pipeline, topic, last, members, observer, operators }
    }

    /// Each value, changed. Like all operators a pure function: it runs again after a crash.
    #[must_use]
    pub fn map<U: 'static>(
        self,
        name: &str,
        change: impl Fn(T) -> U + Send + Sync + 'static,
    ) -> Stream<'p, U> {
        self.then(name, "map", |operators| operators.map(change))
    }

    /// Only the values that `keep` says yes to.
    #[must_use]
    pub fn filter(
        self,
        name: &str,
        keep: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Stream<'p, T> {
        self.then(name, "filter", |operators| operators.filter(keep))
    }

    /// Any number of values for each, in order.
    #[must_use]
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        name: &str,
        change: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Stream<'p, U> {
        self.then(name, "flat_map", |operators| operators.flat_map(change))
    }

    /// The same values under other keys: equal keys meet in one partition of the topic they go to.
    #[must_use]
    pub fn key_by<K: Into<Bytes>>(
        self,
        name: &str,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Stream<'p, T> {
        self.then(name, "key_by", |operators| operators.key_by(key))
    }

    /// The stage that runs it all, whose group and positions are called `<pipeline>/<name>`.
    fn end(
        self,
        name: &str,
        detail: &str,
        outlet: impl FnOnce(&flumen_actors::broker::Broker, Operators<T>) -> MakeOutlet + 'static,
    ) -> &'p mut Pipeline {
        let Self { pipeline, topic, last, members, observer, operators } = self;
        let detail = match members {
            1 => detail.to_owned(),
            _ => format!("{detail} {members} members").trim_start().to_owned(),
        };
        pipeline.topology.add(Kind::Sink, name, detail);
        pipeline.topology.connect(&last, name);
        let outlet = Box::new(move |broker: &_| outlet(broker, operators));
        let name = name.to_owned();
        pipeline.stages.push(StagePlan { name, topic, members, observer, outlet });
        pipeline
    }

    /// Appends to a topic, each result once; the topic is made where there is none. A lazy topic that is read
    /// is synced for it: there are no results of records that a power cut may still take.
    pub fn topic(self, name: &str, topic: TopicSpec, format: impl Format<T> + Send + Sync) {
        let (stage, target) = (format!("{}/{name}", self.pipeline.name), topic.name.clone());
        let pipeline = self.end(name, "", move |broker, operators| {
            let broker = broker.clone();
            Arc::new(move || {
                let (operators, format) = (operators.clone(), format.clone());
                let (broker, target) = (broker.clone(), target.clone());
                Box::new(ToTopic::new(&stage, operators, format, broker, target)) as Box<dyn Outlet>
            })
        });
        pipeline.writes(name, topic);
    }

    /// Calls `each` with every value, at least once: a crash may show some again. Of a lazy topic it sees what
    /// a power cut may still take, and afterwards what came in the place of that.
    pub fn for_each(self, name: &str, each: impl Fn(T) + Send + Sync + 'static) {
        let each = Arc::new(each);
        self.end(name, "for_each", move |_, operators| {
            Arc::new(move || {
                Box::new(Each::new(operators.clone(), each.clone())) as Box<dyn Outlet>
            })
        });
    }
}

impl Stream<'_, Bytes> {
    /// Writes files below `dir`, a line a value, each once. A lazy topic that is read is synced for them.
    pub fn files(self, name: &str, dir: impl Into<PathBuf>) {
        let dir = dir.into();
        let detail = dir.display().to_string();
        self.end(name, &detail, move |_, operators| {
            Arc::new(move || Box::new(Files::new(operators.clone(), &dir)) as Box<dyn Outlet>)
        });
    }
}

impl Stream<'_, (String, u64)> {
    /// Adds up amounts by name, each once; `tally` shows the sums. They are kept in the compacted topic
    /// `<pipeline>-<name>-changelog`, together with how far they go: as long as it is there, it does not
    /// matter what is committed for the group, nor to what an operator resets that. To begin anew,
    /// from the first record of the topic that is read, stop the pipeline and delete it; where the topic
    /// that is read is deleted and made anew, the sums begin anew by themselves.
    ///
    /// A lazy topic is synced for it: a record that is summed is not taken by a power cut any more. Where a
    /// damaged log had to be cut, what was summed of it stays summed, and what comes in its place is summed
    /// too; the log of the node says so.
    ///
    /// What one record adds to has to fit into a batch of that topic (`max.message.bytes`, 64 MiB).
    pub fn sum(self, name: &str, tally: &Tally) {
        let (stage, tally) = (format!("{}/{name}", self.pipeline.name), tally.clone());
        let changelog = changelog::name(&stage);
        let topic = changelog.clone();
        let pipeline = self.end(name, "sum", move |broker, operators| {
            let broker = broker.clone();
            let topic = TopicName::new(&topic).expect("TOPO-5: the graph was checked");
            Arc::new(move || {
                let (operators, broker, topic) = (operators.clone(), broker.clone(), topic.clone());
                let fold = Fold::new(&stage, topic, operators, broker, tally.clone());
                Box::new(fold) as Box<dyn Outlet>
            })
        });
        pipeline.topology.keep(name, &changelog);
    }
}
