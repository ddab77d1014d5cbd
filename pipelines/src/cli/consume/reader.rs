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
    committed,
    form::Printer,
};
use crate::{
    client::{ClientError, Patience, Topic, is_passing},
    signals::Signals,
};

/// Bytes of an answer, and of one partition in it.
const ANSWER_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// How long a node waits for more before it says that there is none.
const WAIT: Duration = Duration::from_millis(500);
/// How often it is looked for partitions that the topic was given meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Reader {
    session: Session,
    topic: Topic,
    /// The next offset of each partition.
    positions: BTreeMap<i32, i64>,
    /// Partitions that are still read; those that had their turn stand behind.
    open: VecDeque<i32>,
    /// Where they end; empty where they are followed.
    ends: BTreeMap<i32, i64>,
    printer: Printer,
    /// As which group it is read.
    pub(super) group: Option<String>,
    /// How many records are still to be printed.
    pub(super) left: u64,
    printed: u64,
    progress: Progress,
    patience: Option<Patience>,
    /// Whether partitions that the topic is given are read too.
    pub(super) takes_new: bool,
    looked: Instant,
}

impl Reader {
    pub(super) fn new(
        session: Session,
        topic: Topic,
        positions: BTreeMap<i32, i64>,
        printer: Printer,
    ) -> Self {
        let open = positions.keys().copied().collect();
        let (ends, group, progress) = (BTreeMap::new(), None, Progress::new(None));
        let (left, printed, patience) = (u64::MAX, 0, None);
        let (takes_new, looked) = (false, Instant::now());
        Self {
            session,
            topic,
            positions,
            open,
            ends,
            printer,
            group,
            left,
            printed,
            progress,
            patience,
            takes_new,
            looked,
        }
    }

    /// Lets it end there.
    pub(super) fn end_at(&mut self, ends: BTreeMap<i32, i64>) {
        let all = ends.iter().map(|(number, end)| end - self.positions.get(number).unwrap_or(end));
        let all: i64 = all.filter(|count| *count > 0).sum();
        self.progress = Progress::new(Some(all.unsigned_abs()));
        self.ends = ends;
        self.close_ended();
    }

    fn close_ended(&mut self) {
        let (ends, positions) = (&self.ends, &self.positions);
        self.open.retain(|number| ends.get(number).is_none_or(|end| positions[number] < *end));
    }

    /// Reads until all is read, or it is told to stop.
    pub(super) async fn run(mut self) -> Result<(), CliError> {
        let mut signals = Signals::listen()?;
        let mut stop = Box::pin(signals.told_to_stop());
        let mut is_stopped = false;
        while !self.open.is_empty() && self.left > 0 && !is_stopped {
            // What was printed is committed before the next is looked at, or the stop.
            let fetched = match select(Box::pin(self.fetch()), &mut stop).await {
                Either::Left((fetched, _)) => fetched,
                Either::Right(_) => {
                    is_stopped = true;
                    continue;
                }
            };
            match fetched {
                Ok(parts) => self.take(parts).await?,
                Err(error) => self.wait_out(error).await?,
            }
            if self.takes_new && self.looked.elapsed() >= LOOK {
                self.look().await?;
            }
            self.close_ended();
            self.progress.at(self.printed, || counted(self.printed, "record"));
        }
        self.progress.end();
        if is_stopped || (std::io::stdout().is_terminal() && std::io::stderr().is_terminal()) {
            let why = if is_stopped { "stopped after" } else { "that were" };
            let kept = match &self.group {
                Some(group) => format!("; group `{group}` goes on behind them"),
                None => String::new(),
            };
            tell(format_args!("flumen: {why} {}{kept}", counted(self.printed, "record")));
        }
        Ok(())
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
        if let Some(group) = self.group.as_ref().filter(|_| !moved.is_empty()) {
            self.session.client.commit(group, &committed(&self.topic, &moved)).await?;
        }
        Ok(())
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
                    if self.left == 0 {
                        return Ok(position);
                    }
                    self.printer.print(number, &record)?;
                    self.left -= 1;
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
        let new = self.topic.partitions.keys().filter(|_| self.takes_new);
        for number in
            new.filter(|number| !self.positions.contains_key(number)).copied().collect::<Vec<_>>()
        {
            self.positions.insert(number, 0);
            self.open.push_back(number);
        }
        Ok(())
    }
}
