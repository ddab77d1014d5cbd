//! Fetches from the leaders of the partitions in turn, and prints what comes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::IsTerminal as _,
    time::Duration,
};

use bytes::Bytes;
use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData},
};
use flumen_runtime::batch::{self, BatchError, BatchHeader, EXPANDED_BYTES_MAX};
use futures::future::{Either, select};
use tokio::time::Instant;

use super::{
    super::{CliError, print::counted, progress::Progress, session::Session, tell},
    form::Printer,
};
use crate::{
    client::{Change, ClientError, Committed, Membership, Patience, Place, Topic, is_passing},
    signals::Signals,
};

/// Bytes of an answer, and of one partition in it.
const ANSWER_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// How long a node waits for more before it says that there is none.
const WAIT: Duration = Duration::from_millis(500);
/// How often it is looked for partitions that the topic was given meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// A partition: its topic, and its number.
pub(super) type Part = (String, i32);
/// What is known of topics, by their names.
pub(super) type Topics = BTreeMap<String, Topic>;

/// What may come.
enum Found {
    Records(Vec<(Part, PartitionData)>),
    Changes(Vec<Change>),
    Nothing,
}

/// What may go wrong with that.
enum Trouble {
    Fetch(ClientError),
    Group(ClientError),
}

/// As which group it is read.
#[derive(Debug, Default)]
pub(super) enum Group {
    /// As none.
    #[default]
    None,
    /// As this, without becoming a member.
    Apart(String),
    /// As this member.
    Member(Box<Membership>),
}

impl Group {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Group::None => None,
            Group::Apart(name) => Some(name),
            Group::Member(member) => Some(member.group()),
        }
    }
}

/// What is read.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Where each partition begins.
    pub(super) begins: BTreeMap<Part, i64>,
    /// Where reading them ends; none where they are followed.
    pub(super) ends: Option<BTreeMap<Part, i64>>,
    /// How many records are printed at the most.
    pub(super) left: u64,
    /// Whether partitions that the topics are given are read too.
    pub(super) takes_new: bool,
    /// Whether it goes on at the end of what there is.
    pub(super) follows: bool,
    pub(super) group: Group,
}

impl Options {
    /// Begins where the group has left off.
    pub(super) fn go_on_after(&mut self, committed: &Committed) {
        for (part, begin) in &mut self.begins {
            *begin = committed.get(part).copied().unwrap_or(*begin);
        }
    }
}

/// The partition that has waited longest of those that somebody leads; of all, where nobody leads any.
fn next_of(open: &VecDeque<Part>, leader: impl Fn(&Part) -> Option<i32>) -> Option<&Part> {
    let led = open.iter().find(|part| leader(part).is_some());
    led.or_else(|| open.front())
}

/// See the module.
pub(super) struct Reader {
    pub(super) session: Session,
    pub(super) topics: Topics,
    pub(super) options: Options,
    /// The next offset of each partition that is read.
    positions: BTreeMap<Part, i64>,
    /// Partitions that are still read; those that had their turn stand behind.
    open: VecDeque<Part>,
    /// Those of them that nobody led when it was looked last.
    unled: BTreeSet<Part>,
    /// Topics that were deleted, and the partitions of them that were read.
    gone: BTreeMap<String, Vec<Part>>,
    printer: Printer,
    printed: u64,
    progress: Progress,
    patience: Option<Patience>,
    looked: Instant,
}

impl Reader {
    pub(super) fn new(
        session: Session,
        topics: Topics,
        options: Options,
        printer: Printer,
    ) -> Self {
        let mut reader = Self {
            session,
            topics,
            options,
            positions: BTreeMap::new(),
            open: VecDeque::new(),
            unled: BTreeSet::new(),
            gone: BTreeMap::new(),
            printer,
            printed: 0,
            progress: Progress::of_output(None),
            patience: None,
            looked: Instant::now(),
        };
        if !matches!(reader.options.group, Group::Member(_)) {
            reader.take_up(reader.options.begins.clone());
        }
        reader
    }

    /// Reads these partitions from now on, too.
    pub(super) fn take_up(&mut self, positions: BTreeMap<Part, i64>) {
        self.open.extend(positions.keys().cloned());
        self.positions.extend(positions);
        if let Some(ends) = &self.options.ends {
            let left = ends.iter().map(|(part, end)| {
                self.positions.get(part).map_or(0, |position| (end - position).max(0))
            });
            let all = self.printed.saturating_add(left.sum::<i64>().unsigned_abs());
            self.progress = Progress::of_output(Some(all));
        }
        self.close_ended();
    }

    /// Does not read these any more.
    pub(super) fn let_go(&mut self, parts: &[Part]) {
        self.positions.retain(|part, _| !parts.contains(part));
        self.open.retain(|part| !parts.contains(part));
        self.gone.values_mut().for_each(|gone| gone.retain(|part| !parts.contains(part)));
    }

    fn close_ended(&mut self) {
        let Some(ends) = &self.options.ends else { return };
        let positions = &self.positions;
        // What came to the topics since is not read.
        self.open.retain(|part| ends.get(part).is_some_and(|end| positions[part] < *end));
    }

    /// Whether there may be something to print.
    fn goes_on(&self) -> bool {
        let may_come = match &self.options.group {
            Group::Member(member) => self.options.ends.is_none() || !member.is_stable(),
            _ => false,
        };
        self.options.left > 0 && (may_come || !self.open.is_empty())
    }

    /// Reads until all is read, or it is told to stop.
    pub(super) async fn run(mut self) -> Result<(), CliError> {
        let mut signals = Signals::listen()?;
        let mut stop = Box::pin(signals.told_to_stop());
        let mut is_stopped = false;
        let mut outcome = Ok(());
        while outcome.is_ok() && self.goes_on() && !is_stopped {
            // What was printed is committed before the next is looked at, or the stop.
            let found = match select(Box::pin(self.next()), &mut stop).await {
                Either::Left((found, _)) => Some(found),
                Either::Right(_) => None,
            };
            let Some(found) = found else {
                is_stopped = true;
                // What was asked last is not waited for.
                self.session.client.hang_up_all();
                continue;
            };
            outcome = match found {
                Ok(Found::Records(parts)) => self.take(parts).await,
                Ok(Found::Changes(changes)) => self.change(changes).await,
                Ok(Found::Nothing) => Ok(()),
                Err(Trouble::Fetch(error)) => self.wait_out(error).await,
                Err(Trouble::Group(error)) => Err(error.into()),
            };
            let looks = self.options.takes_new || !self.unled.is_empty();
            if outcome.is_ok() && looks && self.looked.elapsed() >= LOOK {
                outcome = self.look().await;
            }
            self.close_ended();
            self.progress.at(self.printed, || counted(self.printed, "record"));
        }
        self.progress.end();
        let group = self.options.group.name().map(str::to_owned);
        self.leave().await;
        outcome?;
        if is_stopped || (std::io::stdout().is_terminal() && std::io::stderr().is_terminal()) {
            let why = if is_stopped { "stopped after" } else { "that were" };
            let kept = match group {
                Some(group) => format!("; group `{group}` goes on behind them"),
                None => String::new(),
            };
            tell(format_args!("flumen: {why} {}{kept}", counted(self.printed, "record")));
        }
        // Whoever follows has no other end.
        if is_stopped && !self.options.follows { Err(CliError::Interrupted) } else { Ok(()) }
    }

    /// What comes next: the member's turn where it is due, else records.
    async fn next(&mut self) -> Result<Found, Trouble> {
        if let Group::Member(member) = &mut self.options.group {
            let now = Instant::now();
            if now >= member.due() {
                let changes = member.turn(&mut self.session.client).await;
                return changes.map(Found::Changes).map_err(Trouble::Group);
            }
            if self.open.is_empty() {
                tokio::time::sleep_until(member.due()).await;
                return Ok(Found::Nothing);
            }
        }
        self.fetch().await.map(Found::Records).map_err(Trouble::Fetch)
    }

    fn leader(&self, (topic, number): &Part) -> Option<i32> {
        self.topics.get(topic)?.leader(*number).ok()
    }

    /// What one leader has of its partitions: the one whose partition has waited longest. A partition that
    /// nobody leads keeps none waiting that has a leader.
    async fn fetch(&mut self) -> Result<Vec<(Part, PartitionData)>, ClientError> {
        let first = next_of(&self.open, |part| self.leader(part)).cloned().unwrap_or_default();
        let node = self
            .leader(&first)
            .ok_or_else(|| ClientError::NoLeader(format!("{}-{}", first.0, first.1)))?;
        // With other leaders to be asked, nobody waits for one.
        let is_alone = self.open.iter().filter_map(|part| self.leader(part)).all(|it| it == node);
        let wait = if is_alone { WAIT } else { WAIT / 10 };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: ANSWER_BYTES,
            topics: self.asked_of(node),
            ..FetchRequest::default()
        };
        let told = self.session.client.ask_node(node, &request, wait).await?;
        crate::client::check(told.error_code, None, || format!("cannot read `{}`", first.0))?;
        let parts = told.responses.into_iter().flat_map(|topic| {
            let name = topic.topic.to_string();
            topic
                .partitions
                .into_iter()
                .map(move |part| ((name.clone(), part.partition_index), part))
        });
        Ok(parts.collect())
    }

    /// The partitions that `node` leads, those in front that have waited longest: an answer that is full
    /// has nothing of those behind.
    fn asked_of(&self, node: i32) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for part in self.open.iter().filter(|part| self.leader(part) == Some(node)) {
            let (name, number) = part;
            let asked = FetchPartition {
                partition: *number,
                fetch_offset: self.positions[part],
                partition_max_bytes: PARTITION_BYTES,
                ..FetchPartition::default()
            };
            match topics.iter_mut().find(|topic| *topic.topic == **name) {
                Some(topic) => topic.partitions.push(asked),
                None => topics.push(FetchTopic {
                    topic: name.as_str().into(),
                    topic_id: self.topics[name].id,
                    partitions: vec![asked],
                }),
            }
        }
        topics
    }

    /// Prints what came. What was printed is committed whatever comes behind it: else whoever goes on
    /// there prints it again, each time.
    async fn take(&mut self, parts: Vec<(Part, PartitionData)>) -> Result<(), CliError> {
        if let Some(first) = self.open.pop_front() {
            self.open.push_back(first);
        }
        let (mut moved, mut troubles) = (BTreeMap::new(), Vec::new());
        let mut printed = Ok(());
        for (part, data) in parts {
            let Some(begin) = self.positions.get(&part).copied() else { continue };
            if !data.error_code.is_none() {
                troubles.push((part, data.error_code));
                continue;
            }
            self.patience = None;
            let mut position = begin;
            printed = data.records.slices().try_for_each(|it| self.print(&part, &mut position, it));
            if position > begin {
                self.positions.insert(part.clone(), position);
                moved.insert(part, position);
            }
            if printed.is_err() {
                break;
            }
        }
        let flushed = self.printer.flush().map_err(CliError::from);
        let kept = match flushed {
            Ok(()) if !moved.is_empty() => self.commit(&moved).await,
            flushed => flushed,
        };
        printed.and(kept)?;
        for (part, code) in troubles {
            // What was committed may have shown that it is another's by now.
            if let Some(position) = self.positions.get(&part).copied() {
                self.trouble(&part, position, code).await?;
            }
        }
        Ok(())
    }

    /// Prints what `slice` has from `position` on, which is moved behind what is printed.
    fn print(&mut self, part: &Part, position: &mut i64, slice: &Bytes) -> Result<(), CliError> {
        let (topic, number) = part;
        let bad = |error: &BatchError| CliError::Unreadable(format!("`{topic}-{number}`: {error}"));
        let mut at = 0;
        while at < slice.len() {
            let whole = match BatchHeader::parse(&slice[at..]) {
                Ok(header) => Some(header).filter(|it| at + it.batch_bytes as usize <= slice.len()),
                Err(BatchError::Short { .. }) => None,
                Err(error) => return Err(bad(&error)),
            };
            // A batch that is cut off comes whole the next time.
            let Some(header) = whole else { break };
            let bytes = slice.slice(at..at + header.batch_bytes as usize);
            at += bytes.len();
            if !header.attributes.is_control() {
                let records = batch::expand(&bytes, &header, EXPANDED_BYTES_MAX);
                for record in records.map_err(|error| bad(&error))? {
                    let record = record.map_err(|error| bad(&error))?;
                    if record.offset.as_i64() < *position {
                        continue;
                    }
                    if self.options.left == 0 {
                        return Ok(());
                    }
                    self.printer.print(topic, *number, &record)?;
                    self.options.left -= 1;
                    self.printed += 1;
                    *position = record.offset.as_i64() + 1;
                }
            }
            *position = (*position).max(header.next_offset().as_i64());
        }
        Ok(())
    }

    /// What an error of a partition means for it.
    async fn trouble(&mut self, part: &Part, at: i64, code: ErrorCode) -> Result<(), CliError> {
        let (topic, number) = part;
        let name = format!("{topic}-{number}");
        if code == ErrorCode::OffsetOutOfRange {
            let (client, asked) = (&mut self.session.client, &[*number]);
            let first = client.offsets(&self.topics[topic], asked, Place::Earliest);
            let first = match first.await {
                Ok(found) => found.get(number).copied().unwrap_or(Err(code)),
                Err(error) => return self.wait_out(error).await,
            };
            if let Ok(Some(first)) = first
                && first > at
            {
                tell(format_args!(
                    "flumen: `{name}` begins at offset {first} by now: what was before is gone"
                ));
                self.positions.insert(part.clone(), first);
                return Ok(());
            }
        }
        if is_passing(code) {
            let (what, message) = (format!("`{name}`"), None);
            return self.wait_out(ClientError::Refused { what, code, message }).await;
        }
        if matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) {
            // Where the topic is gone, it is read no more; else its leader does not know it yet.
            return self.wait_out(ClientError::NoLeader(name)).await;
        }
        Err(self.session.why(topic, *number, at, code).await)
    }

    /// Waits for what passes by itself, and looks who leads then.
    async fn wait_out(&mut self, error: ClientError) -> Result<(), CliError> {
        let patience = *self.patience.get_or_insert_default();
        patience.with(error).await?;
        self.look().await
    }

    /// Looks who leads, and whether there are more partitions to be read by now.
    async fn look(&mut self) -> Result<(), CliError> {
        self.looked = Instant::now();
        let names: Vec<String> = self.topics.keys().chain(self.gone.keys()).cloned().collect();
        for name in names {
            match self.session.client.topic(&name, false).await {
                Ok(Some(topic)) => self.know(topic),
                Ok(None) if self.topics.remove(&name).is_some() => {
                    if self.topics.is_empty() {
                        return Err(CliError::Unreadable(format!("`{name}` was deleted")));
                    }
                    tell(format_args!("flumen: `{name}` was deleted; the others are read on"));
                    self.forget(&name);
                }
                Ok(None) => {}
                Err(error) => {
                    let patience = *self.patience.get_or_insert_default();
                    return Ok(patience.with(error).await?);
                }
            }
        }
        self.tell_unled();
        // A member is told by its group what it is to read of them.
        let takes_new = self.options.takes_new && !matches!(self.options.group, Group::Member(_));
        let topics = self.topics.values().filter(|_| takes_new);
        let parts = topics
            .flat_map(|topic| topic.partitions.keys().map(|number| (topic.name.clone(), *number)));
        let new: Vec<Part> = parts.filter(|part| !self.positions.contains_key(part)).collect();
        self.open.extend(new.iter().cloned());
        self.positions.extend(new.into_iter().map(|part| (part, 0)));
        Ok(())
    }

    /// Takes in what a topic is now. One that was deleted and is there again is followed from its
    /// beginning.
    fn know(&mut self, topic: Topic) {
        let (name, id) = (topic.name.clone(), topic.id);
        let known = self.topics.insert(name.clone(), topic);
        if known.is_some_and(|known| known.id != id) {
            self.forget(&name);
        }
        let Some(parts) = self.gone.remove(&name) else { return };
        if self.options.ends.is_none() {
            tell(format_args!("flumen: `{name}` was made again, and is read from its beginning"));
        }
        let partitions = &self.topics[&name].partitions;
        let is_there = |part: &Part| partitions.contains_key(&part.1);
        self.take_up(parts.into_iter().filter(is_there).map(|part| (part, 0)).collect());
    }

    /// Does not read a topic any more that was deleted.
    fn forget(&mut self, name: &str) {
        let parts = self.positions.keys().filter(|part| part.0 == name);
        let parts: Vec<Part> = parts.cloned().collect();
        self.let_go(&parts);
        self.options.begins.retain(|part, _| part.0 != name);
        if let Some(ends) = &mut self.options.ends {
            ends.retain(|part, _| part.0 != name);
        }
        self.gone.insert(name.to_owned(), parts);
    }

    /// Says which partitions are not read now since nobody leads them.
    fn tell_unled(&mut self) {
        let unled = self.open.iter().filter(|part| self.leader(part).is_none());
        let unled: BTreeSet<Part> = unled.cloned().collect();
        for (name, number) in unled.difference(&self.unled) {
            tell(format_args!(
                "flumen: nobody leads `{name}-{number}` now: it is read as soon as somebody does; see \
                 `flumen topics describe {name}`"
            ));
        }
        self.unled = unled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_nobody_leads_keeps_none_waiting_that_has_a_leader() {
        let part = |number| ("t".to_owned(), number);
        let open = VecDeque::from([part(0), part(1), part(2)]);
        let next = |led: &[i32]| {
            next_of(&open, |part| led.contains(&part.1).then_some(7)).map(|part| part.1)
        };
        assert_eq!(next(&[0, 1, 2]), Some(0));
        assert_eq!(next(&[1, 2]), Some(1));
        assert_eq!(next(&[]), Some(0), "it is told which has no leader");
    }
}
