//! Fetches from the leaders of the partitions in turn, and prints what comes.

use std::{
    collections::{BTreeMap, VecDeque},
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
    membership::turn,
};
use crate::{
    client::{Change, ClientError, Committed, Membership, Patience, Topic, is_passing},
    signals::Signals,
};

/// Bytes of an answer, and of one partition in it.
const ANSWER_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// How long a node waits for more before it says that there is none.
const WAIT: Duration = Duration::from_millis(500);
/// How often it is looked for partitions that the topic was given meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// What may come.
enum Found {
    Records(Vec<PartitionData>),
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
    pub(super) begins: BTreeMap<i32, i64>,
    /// Where reading them ends; none where they are followed.
    pub(super) ends: Option<BTreeMap<i32, i64>>,
    /// How many records are printed at the most.
    pub(super) left: u64,
    /// Whether partitions that the topic is given are read too.
    pub(super) takes_new: bool,
    /// Whether it goes on at the end of what there is.
    pub(super) follows: bool,
    pub(super) group: Group,
}

impl Options {
    /// Begins where the group has left off.
    pub(super) fn go_on_after(&mut self, topic: &str, committed: &Committed) {
        for (number, begin) in &mut self.begins {
            if let Some(offset) = committed.get(&(topic.to_owned(), *number)) {
                *begin = *offset;
            }
        }
    }
}

/// See the module.
pub(super) struct Reader {
    pub(super) session: Session,
    pub(super) topic: Topic,
    pub(super) options: Options,
    /// The next offset of each partition that is read.
    pub(super) positions: BTreeMap<i32, i64>,
    /// Partitions that are still read; those that had their turn stand behind.
    pub(super) open: VecDeque<i32>,
    printer: Printer,
    printed: u64,
    progress: Progress,
    patience: Option<Patience>,
    looked: Instant,
}

impl Reader {
    pub(super) fn new(session: Session, topic: Topic, options: Options, printer: Printer) -> Self {
        let mut reader = Self {
            session,
            topic,
            options,
            positions: BTreeMap::new(),
            open: VecDeque::new(),
            printer,
            printed: 0,
            progress: Progress::new(None),
            patience: None,
            looked: Instant::now(),
        };
        if !matches!(reader.options.group, Group::Member(_)) {
            reader.take_up(reader.options.begins.clone());
        }
        reader
    }

    /// Reads these partitions from now on, too.
    pub(super) fn take_up(&mut self, positions: BTreeMap<i32, i64>) {
        self.open.extend(positions.keys());
        self.positions.extend(positions);
        if let Some(ends) = &self.options.ends {
            let left = ends.iter().map(|(number, end)| {
                self.positions.get(number).map_or(0, |position| (end - position).max(0))
            });
            let all = self.printed.saturating_add(left.sum::<i64>().unsigned_abs());
            self.progress = Progress::new(Some(all));
        }
        self.close_ended();
    }

    /// Does not read these any more.
    pub(super) fn let_go(&mut self, numbers: &[i32]) {
        self.positions.retain(|number, _| !numbers.contains(number));
        self.open.retain(|number| !numbers.contains(number));
    }

    fn close_ended(&mut self) {
        let (ends, positions) = (&self.options.ends, &self.positions);
        let end_of = |number: &i32| ends.as_ref().and_then(|ends| ends.get(number));
        self.open.retain(|number| end_of(number).is_none_or(|end| positions[number] < *end));
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
            if outcome.is_ok() && self.options.takes_new && self.looked.elapsed() >= LOOK {
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
                return turn(member, &mut self.session.client, &self.topic)
                    .await
                    .map(Found::Changes)
                    .map_err(Trouble::Group);
            }
            if self.open.is_empty() {
                tokio::time::sleep_until(member.due()).await;
                return Ok(Found::Nothing);
            }
        }
        self.fetch().await.map(Found::Records).map_err(Trouble::Fetch)
    }

    /// What one leader has of its partitions: the one whose partition has waited longest.
    async fn fetch(&mut self) -> Result<Vec<PartitionData>, ClientError> {
        let leader = |number: &i32| self.topic.partitions.get(number).and_then(|part| part.leader);
        let first = self.open.front().copied().unwrap_or_default();
        let node = leader(&first)
            .ok_or_else(|| ClientError::NoLeader(format!("{}-{first}", self.topic.name)))?;
        let theirs = self.open.iter().filter(|number| leader(number) == Some(node));
        let partitions = theirs.map(|number| FetchPartition {
            partition: *number,
            fetch_offset: self.positions[number],
            partition_max_bytes: PARTITION_BYTES,
            ..FetchPartition::default()
        });
        let topic = FetchTopic {
            topic: self.topic.name.as_str().into(),
            topic_id: self.topic.id,
            partitions: partitions.collect(),
        };
        // With other leaders to be asked, nobody waits for one.
        let is_alone = self.open.iter().all(|number| leader(number) == Some(node));
        let wait = if is_alone { WAIT } else { WAIT / 10 };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: ANSWER_BYTES,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let told = self.session.client.ask_node(node, &request, wait).await?;
        crate::client::check(told.error_code, None, || {
            format!("cannot read `{}`", self.topic.name)
        })?;
        Ok(told.responses.into_iter().flat_map(|topic| topic.partitions).collect())
    }

    async fn take(&mut self, parts: Vec<PartitionData>) -> Result<(), CliError> {
        let mut moved = BTreeMap::new();
        if let Some(first) = self.open.pop_front() {
            self.open.push_back(first);
        }
        for part in parts {
            let number = part.partition_index;
            let Some(position) = self.positions.get(&number).copied() else { continue };
            if !part.error_code.is_none() {
                self.trouble(number, position, part.error_code).await?;
                continue;
            }
            self.patience = None;
            let bytes: Vec<&Bytes> = part.records.slices().collect();
            let next = bytes
                .iter()
                .try_fold(position, |position, slice| self.print(number, position, slice))?;
            if next > position {
                self.positions.insert(number, next);
                moved.insert(number, next);
            }
        }
        self.printer.flush()?;
        if moved.is_empty() { Ok(()) } else { self.commit(&moved).await }
    }

    /// Prints what `slice` has from `position` on, and returns the offset after the last.
    fn print(&mut self, number: i32, mut position: i64, slice: &Bytes) -> Result<i64, CliError> {
        let topic = self.topic.name.clone();
        let bad =
            move |error: &BatchError| CliError::Unreadable(format!("`{topic}-{number}`: {error}"));
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
                    if record.offset.as_i64() < position {
                        continue;
                    }
                    if self.options.left == 0 {
                        return Ok(position);
                    }
                    self.printer.print(number, &record)?;
                    self.options.left -= 1;
                    self.printed += 1;
                    position = record.offset.as_i64() + 1;
                }
            }
            position = position.max(header.next_offset().as_i64());
        }
        Ok(position)
    }

    /// What an error of a partition means for it.
    async fn trouble(&mut self, number: i32, at: i64, code: ErrorCode) -> Result<(), CliError> {
        let name = format!("{}-{number}", self.topic.name);
        if code == ErrorCode::OffsetOutOfRange {
            let all = &[number];
            let first =
                self.session.client.offsets(&self.topic, all, crate::client::Place::Earliest);
            let first = match first.await {
                Ok(found) => found.get(&number).copied().unwrap_or(Err(code)),
                Err(error) => return self.wait_out(error).await,
            };
            if let Ok(Some(first)) = first
                && first > at
            {
                tell(format_args!(
                    "flumen: `{name}` begins at offset {first} by now: what was before is gone"
                ));
                self.positions.insert(number, first);
                return Ok(());
            }
        }
        if is_passing(code) {
            let (what, message) = (format!("`{name}`"), None);
            return self.wait_out(ClientError::Refused { what, code, message }).await;
        }
        Err(self.session.why(&self.topic.name, number, at, code).await)
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
        match self.session.client.topic(&self.topic.name, false).await {
            Ok(Some(topic)) => self.topic = topic,
            Ok(None) => {
                let gone = format!("`{}` was deleted", self.topic.name);
                return Err(CliError::Unreadable(gone));
            }
            Err(error) => {
                let patience = *self.patience.get_or_insert_default();
                return Ok(patience.with(error).await?);
            }
        }
        // A member is told by its group what it is to read of them.
        let takes_new = self.options.takes_new && !matches!(self.options.group, Group::Member(_));
        let new = self.topic.partitions.keys().filter(|_| takes_new);
        let new = new.filter(|number| !self.positions.contains_key(number));
        let new: BTreeMap<i32, i64> = new.map(|number| (*number, 0)).collect();
        self.open.extend(new.keys());
        self.positions.extend(new);
        Ok(())
    }
}
