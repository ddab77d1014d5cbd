//! The graph that a pipeline describes, as data: checked before anything starts, and drawn.
//!
//! ```text
//!   source ──► interceptor* ──► channel ──► sink ──► topic ──► operator* ──► topic │ sink
//! ```
//!
//! Types are checked by the compiler, since each stage is generic over what flows through it. What
//! the compiler cannot see is checked here.
//!
//! # Invariants
//! - TOPO-1: every name is given once.
//! - TOPO-2: every stage is fed, and feeds another unless it is an end.
//! - TOPO-3: there is no cycle, neither of stages nor through topics, nor through other pipelines of
//!   the node.
//! - TOPO-4: a name can be that of a directory and of a group: up to 255 letters, digits, `.`, `_`
//!   and `-`, and neither `.` nor `..`.
//! - TOPO-5: the changelog of a stage can be a topic, and nothing else is put into it.

mod draw;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use flumen_actors::broker::names::TopicName;

/// What a node of the graph does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Brings events in from outside.
    Source,
    /// Changes or drops events on their way to a channel.
    Interceptor,
    /// Buffers events between a source and a sink.
    Channel,
    /// Takes events or records out.
    Sink,
    /// A log of partitions: an end of one pipeline and the beginning of another.
    Topic,
    /// Makes records of records.
    Operator,
}

impl Kind {
    /// Its name as shown to a person.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Interceptor => "interceptor",
            Kind::Channel => "channel",
            Kind::Sink => "sink",
            Kind::Topic => "topic",
            Kind::Operator => "operator",
        }
    }

    fn must_be_fed(self) -> bool {
        !matches!(self, Kind::Source | Kind::Topic)
    }

    fn must_feed(self) -> bool {
        !matches!(self, Kind::Sink | Kind::Topic)
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it does.
    pub kind: Kind,
    /// Its name, unique among the nodes; topics are the same node wherever they are named.
    pub name: String,
    /// A few words on how it is set up, for pictures: `taildir logs/*.log`.
    pub detail: String,
}

/// The graph of one or several pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    stages: BTreeMap<String, Stage>,
    edges: BTreeSet<(String, String)>,
    /// Of the topics those that are changelogs.
    changelogs: BTreeSet<String>,
    /// Names that were given to a second stage.
    twice: Vec<(Stage, Stage)>,
}

/// The graph cannot run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopologyError {
    /// TOPO-1.
    #[error("the name `{name}` is given to a {first} and to a {second}: give one of them another", first = .first.label(), second = .second.label())]
    NameTwice {
        /// The name.
        name: String,
        /// What has it.
        first: Kind,
        /// What wants it too.
        second: Kind,
    },
    /// TOPO-2.
    #[error("nothing feeds the {} `{name}`: connect a stage before it, or remove it", .kind.label())]
    Unfed {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// TOPO-2.
    #[error("the {} `{name}` leads nowhere: end it with a sink or a topic", .kind.label())]
    Dangling {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// TOPO-3.
    #[error("the graph runs in a circle, and its records with it: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// TOPO-4.
    #[error(
        "`{0}` is no name: give it up to 255 of the letters a to z and A to Z, digits, `.`, `_` and `-`"
    )]
    Name(String),
    /// TOPO-5.
    #[error(
        "`{stage}` would keep what it knows in the topic `{topic}`, but that is no topic's name: give the pipeline or the stage a shorter one"
    )]
    ChangelogName {
        /// The stage.
        stage: String,
        /// Its changelog.
        topic: String,
    },
    /// TOPO-5.
    #[error(
        "`{first}` and `{second}` would both put records into `{topic}`, where one of them keeps what it knows: give one of them another name"
    )]
    ChangelogTwice {
        /// The changelog.
        topic: String,
        /// What puts records there.
        first: String,
        /// What does so too.
        second: String,
    },
    /// A pipeline of that name runs.
    #[error(
        "a pipeline called `{0}` runs on this node already: stop it first, or give this one another name"
    )]
    Runs(String),
    /// There is nothing to run.
    #[error("the pipeline `{0}` is empty: give it a source or a topic to read")]
    Empty(String),
}

impl Topology {
    /// Adds a stage. A topic may be added again; any other name given twice is found by
    /// [`Topology::check`].
    pub fn add(&mut self, kind: Kind, name: &str, detail: impl fmt::Display) {
        let stage = Stage { kind, name: name.to_owned(), detail: detail.to_string() };
        match self.stages.get(name) {
            Some(there) if there.kind == Kind::Topic && kind == Kind::Topic => {}
            Some(there) => self.twice.push((there.clone(), stage)),
            None => drop(self.stages.insert(name.to_owned(), stage)),
        }
    }

    /// Connects two stages that were added.
    pub fn connect(&mut self, from: &str, to: &str) {
        assert!(self.stages.contains_key(from) && self.stages.contains_key(to), "added before");
        self.edges.insert((from.to_owned(), to.to_owned()));
    }

    /// Says that `stage`, which was added, keeps what it knows in `topic`.
    pub fn keep(&mut self, stage: &str, topic: &str) {
        self.add(Kind::Topic, topic, "changelog");
        self.connect(stage, topic);
        self.changelogs.insert(topic.to_owned());
    }

    /// Takes in the graph of the pipeline `name`, whose stages are called `<name>/<stage>` in this one:
    /// pipelines of one node meet in its topics.
    pub fn merge(&mut self, name: &str, other: &Topology) {
        let outer = |stage: &str| match other.stages.get(stage) {
            Some(Stage { kind: Kind::Topic, .. }) | None => stage.to_owned(),
            Some(_) => format!("{name}/{stage}"),
        };
        for stage in other.stages.values() {
            self.add(stage.kind, &outer(&stage.name), &stage.detail);
        }
        self.edges.extend(other.edges.iter().map(|(from, to)| (outer(from), outer(to))));
        self.changelogs.extend(other.changelogs.iter().cloned());
    }

    /// The stages, in the order of names.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.stages.values()
    }

    /// The connections, from and to.
    pub fn edges(&self) -> impl Iterator<Item = (&Stage, &Stage)> {
        self.edges.iter().map(|(from, to)| (&self.stages[from], &self.stages[to]))
    }

    fn targets<'a>(&'a self, from: &'a str) -> impl Iterator<Item = &'a str> {
        self.edges.iter().filter(move |(f, _)| f == from).map(|(_, to)| to.as_str())
    }

    /// Whether the graph can run.
    ///
    /// # Errors
    /// The first thing found that is wrong, in the order of the invariants.
    pub fn check(&self) -> Result<(), TopologyError> {
        if let Some((first, second)) = self.twice.first() {
            let name = first.name.clone();
            return Err(TopologyError::NameTwice { name, first: first.kind, second: second.kind });
        }
        for stage in self.stages.values() {
            if !self.changelogs.contains(&stage.name) {
                check_name(&stage.name)?;
            }
            let is_fed = self.edges.iter().any(|(_, to)| *to == stage.name);
            if stage.kind.must_be_fed() && !is_fed {
                return Err(TopologyError::Unfed { kind: stage.kind, name: stage.name.clone() });
            }
            if stage.kind.must_feed() && self.targets(&stage.name).next().is_none() {
                return Err(TopologyError::Dangling { kind: stage.kind, name: stage.name.clone() });
            }
        }
        self.order()?;
        self.check_changelogs()
    }

    /// Whether each changelog is its stage's own.
    ///
    /// # Errors
    /// TOPO-5: [`TopologyError::ChangelogName`], [`TopologyError::ChangelogTwice`].
    pub fn check_changelogs(&self) -> Result<(), TopologyError> {
        for topic in &self.changelogs {
            let mut feeds = self.edges.iter().filter(|(_, to)| to == topic).map(|(from, _)| from);
            let stage = feeds.next().expect("it was connected").clone();
            if let Some(second) = feeds.next() {
                let (topic, second) = (topic.clone(), second.clone());
                return Err(TopologyError::ChangelogTwice { topic, first: stage, second });
            }
            if TopicName::new(topic).is_err() {
                return Err(TopologyError::ChangelogName { stage, topic: topic.clone() });
            }
        }
        Ok(())
    }

    /// The stages, each behind all that it feeds: the order in which they start.
    ///
    /// # Errors
    /// TOPO-3: [`TopologyError::Cycle`].
    pub fn order(&self) -> Result<Vec<&str>, TopologyError> {
        let mut order = Vec::new();
        for start in self.stages.keys() {
            self.walk(start, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    /// Depth first: what a stage feeds is put into `order` before it.
    fn walk<'a>(
        &'a self,
        at: &'a str,
        path: &mut Vec<&'a str>,
        order: &mut Vec<&'a str>,
    ) -> Result<(), TopologyError> {
        if let Some(seen) = path.iter().position(|name| *name == at) {
            let circle = path[seen..].iter().chain([&at]);
            return Err(TopologyError::Cycle(circle.map(|name| (*name).to_owned()).collect()));
        }
        if !order.contains(&at) {
            path.push(at);
            for next in self.targets(at) {
                self.walk(next, path, order)?;
            }
            path.pop();
            order.push(at);
        }
        Ok(())
    }
}

/// TOPO-4.
///
/// # Errors
/// [`TopologyError::Name`].
pub fn check_name(name: &str) -> Result<(), TopologyError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=255).contains(&name.len()) && !matches!(name, "." | "..");
    if fits && name.chars().all(is_legal) {
        Ok(())
    } else {
        Err(TopologyError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(names: &[(Kind, &str)]) -> Topology {
        let mut topology = Topology::default();
        for (kind, name) in names {
            topology.add(*kind, name, "");
        }
        for pair in names.windows(2) {
            topology.connect(pair[0].1, pair[1].1);
        }
        topology
    }

    #[test]
    fn a_whole_path_can_run() {
        let agent = [
            (Kind::Source, "tail"),
            (Kind::Interceptor, "stamp"),
            (Kind::Channel, "buffer"),
            (Kind::Sink, "publish"),
            (Kind::Topic, "access"),
            (Kind::Operator, "parse"),
            (Kind::Topic, "parsed"),
        ];
        assert_eq!(line(&agent).check(), Ok(()));
    }

    #[test]
    fn two_pipelines_meet_in_a_topic() {
        let mut both = Topology::default();
        both.merge("p", &line(&[(Kind::Sink, "a"), (Kind::Topic, "t")]));
        both.merge("q", &line(&[(Kind::Topic, "t"), (Kind::Sink, "a")]));
        assert_eq!(both.order(), Ok(vec!["q/a", "t", "p/a"]), "what is fed comes first");
    }

    #[test]
    fn topo_3_a_circle_through_another_pipeline_is_found() {
        let mut both = Topology::default();
        both.merge("p", &line(&[(Kind::Topic, "t"), (Kind::Sink, "a"), (Kind::Topic, "u")]));
        both.merge("q", &line(&[(Kind::Topic, "u"), (Kind::Sink, "a"), (Kind::Topic, "t")]));
        let error = both.order().unwrap_err().to_string();
        assert!(error.contains("p/a") && error.contains("q/a"), "TOPO-3: {error}");
    }

    #[test]
    fn topo_4_a_name_that_would_leave_its_directory_is_refused() {
        let long = "x".repeat(256);
        for name in ["..", "../up", "a/b", "", "a b", "ü", &long] {
            let error = line(&[(Kind::Source, name), (Kind::Sink, "z")]).check().unwrap_err();
            assert_eq!(error, TopologyError::Name(name.to_owned()), "TOPO-4");
        }
    }

    #[test]
    fn topo_5_a_changelog_is_a_topic_of_one_stage() {
        let summing = |stage: &str, changelog: &str| {
            let mut graph = line(&[(Kind::Topic, "t"), (Kind::Sink, stage)]);
            graph.keep(stage, changelog);
            graph
        };
        assert_eq!(summing("s", "p-s-changelog").check(), Ok(()));
        let long = summing("s", &"x".repeat(270)).check().unwrap_err();
        let is_named = matches!(&long, TopologyError::ChangelogName { stage, .. } if stage == "s");
        assert!(is_named, "TOPO-5: {long}");
        let mut both = Topology::default();
        both.merge("p", &summing("q-s", "p-q-s-changelog"));
        assert_eq!(both.check_changelogs(), Ok(()));
        both.merge("p-q", &summing("s", "p-q-s-changelog"));
        let error = both.check_changelogs().unwrap_err().to_string();
        assert!(error.contains("`p-q/s` and `p/q-s` would both"), "TOPO-5: {error}");
        let mut written = Topology::default();
        written.merge("p", &summing("s", "p-s-changelog"));
        written.merge("q", &line(&[(Kind::Sink, "z"), (Kind::Topic, "p-s-changelog")]));
        assert!(written.check_changelogs().is_err(), "TOPO-5: another sink writes there");
    }

    #[test]
    fn topo_1_a_name_given_twice_is_found() {
        let twice = line(&[(Kind::Source, "a"), (Kind::Channel, "a")]);
        let error = twice.check().unwrap_err();
        let is_named = matches!(&error, TopologyError::NameTwice { name, .. } if name == "a");
        assert!(is_named, "TOPO-1: {error}");
    }

    #[test]
    fn topo_2_dangling_ends_are_found() {
        let error = line(&[(Kind::Source, "a"), (Kind::Channel, "b")]).check().unwrap_err();
        let is_named = matches!(&error, TopologyError::Dangling { name, .. } if name == "b");
        assert!(is_named, "TOPO-2: {error}");
        let error = line(&[(Kind::Channel, "b"), (Kind::Sink, "c")]).check().unwrap_err();
        let is_named = matches!(&error, TopologyError::Unfed { name, .. } if name == "b");
        assert!(is_named, "TOPO-2: {error}");
    }

    #[test]
    fn topo_3_a_circle_through_topics_is_found_and_named() {
        let mut circle = line(&[(Kind::Topic, "a"), (Kind::Operator, "f"), (Kind::Topic, "b")]);
        circle.add(Kind::Operator, "g", "");
        circle.connect("b", "g");
        circle.connect("g", "a");
        let error = circle.check().unwrap_err();
        assert_eq!(error.to_string().matches("->").count(), 4, "TOPO-3: {error}");
    }
}
