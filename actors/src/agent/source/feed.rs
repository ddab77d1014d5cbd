//! From a source into its channels: interceptors, selection, credit, and the put itself.
//!
//! ```text
//!   batch ─► interceptors ─► for each channel: skip what it has ─► credit ─► Put{events, advance}
//! ```
//!
//! Each channel keeps the source's position for itself, so after a failure they may differ. The
//! source goes on from the lowest, and a channel that is ahead is spared what it has already: each
//! channel gets every event once.

use std::{collections::BTreeMap, sync::Arc};

use flumen_runtime::{
    clock::Clock,
    credit::{Credit, Permit},
};
use futures::future::try_join_all;

use crate::agent::{
    channel::{Channel, ChannelError, Put, Session},
    event::{Advance, Event, Position, PositionBytes, Text, cost_of},
    interceptor::{Interceptor, intercept},
    selector::Replicating,
};

/// Makes the interceptors of one life of a source.
pub type Interceptors = Arc<dyn Fn() -> Vec<Box<dyn Interceptor>> + Send + Sync>;

/// How far into its part an event reaches; `None` for a part that has no such number.
pub type MarkOf = fn(&PositionBytes) -> Option<u64>;

/// How a source's positions are read where its channels do not stand at the same place.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// How far a part is read.
    pub mark_of: MarkOf,
    /// Whether two positions of one name can be of the same part: an inode number is used again.
    pub is_same: fn(&PositionBytes, &PositionBytes) -> bool,
}

/// Where a source's events go, and through what.
#[derive(Clone)]
pub struct FeedOptions {
    /// The source's name, unique among the sources of each of its channels.
    pub source: Text,
    /// Which channels.
    pub selector: Replicating,
    /// What changes the events on the way; none where it makes none.
    pub interceptors: Interceptors,
}

impl FeedOptions {
    /// The source called `source`, into `channel` and through no interceptor.
    #[must_use]
    pub fn new(source: impl Into<Text>, channel: Channel) -> Self {
        let selector = Replicating::to(channel);
        Self { source: source.into(), selector, interceptors: Arc::new(Vec::new) }
    }
}

/// Where an event ends in its part of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The part, by its name in the position.
    pub part: Arc<str>,
    /// How far it is read with this event.
    pub end: u64,
}

/// What a source puts at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The events, each with where it ends.
    pub events: Vec<(Event, Mark)>,
    /// Where the source stands after them.
    pub parts: Vec<(String, Option<PositionBytes>)>,
    /// Parts that begin again at their first byte before these events, whatever was read of them: a
    /// file that was cut, or another one under the same name.
    pub anew: Vec<String>,
}

/// What was left out of optional channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Events that are in all required channels.
    pub put: u64,
    /// Events that some optional channel refused or had no room for.
    pub refused: u64,
}

struct Outlet {
    channel: Channel,
    is_required: bool,
    session: Session,
    credit: Credit,
    ahead: Ahead,
}

/// What a channel has that is put once more for another.
struct Ahead {
    /// Where the source stood by what the channel has.
    position: Position,
    /// Parts of which the channel has more than where the source goes on, and how much.
    parts: BTreeMap<String, u64>,
}

/// The way of one life of a source into its channels.
pub struct Feed {
    source: Text,
    outlets: Vec<Outlet>,
    chain: Vec<Box<dyn Interceptor>>,
    clock: Arc<dyn Clock>,
    reading: Reading,
    counts: FeedCounts,
}

impl Feed {
    /// Opens all channels; answers also where the source has to go on.
    ///
    /// # Errors
    /// The first [`ChannelError`] of a required channel. An optional one that cannot be opened is
    /// left out until the source's next life.
    pub async fn open(
        options: &FeedOptions,
        clock: Arc<dyn Clock>,
        reading: Reading,
    ) -> Result<(Feed, Position), ChannelError> {
        let mut outlets = Vec::new();
        for (channel, is_required) in options.selector.outlets() {
            let opened = match channel.open_source(options.source.clone()).await {
                Ok(opened) => opened,
                Err(error) if is_required => return Err(error),
                Err(error) => {
                    tracing::warn!(source = %options.source, %error, "an optional channel is left out");
                    continue;
                }
            };
            let (session, credit) = (opened.session, opened.credit);
            let (channel, ahead) =
                (channel.clone(), Ahead { position: opened.position, parts: BTreeMap::new() });
            outlets.push(Outlet { channel, is_required, session, credit, ahead });
        }
        let required = outlets.iter().filter(|outlet| outlet.is_required);
        let required: Vec<&Position> = required.map(|outlet| &outlet.ahead.position).collect();
        let lowest = lowest(&required, reading.mark_of);
        for outlet in &mut outlets {
            let position = std::mem::take(&mut outlet.ahead.position);
            outlet.ahead = Ahead::new(position, &lowest, reading.mark_of);
        }
        let (source, chain) = (options.source.clone(), (options.interceptors)());
        let counts = FeedCounts::default();
        Ok((Feed { source, outlets, chain, clock, reading, counts }, lowest))
    }

    /// What was put so far.
    #[must_use]
    pub fn counts(&self) -> FeedCounts {
        self.counts
    }

    /// Puts `batch` into all channels; waits while a required one is full.
    ///
    /// # Errors
    /// The first [`ChannelError`] of a required channel. Others may have taken the batch: this feed
    /// must not be used again, and the next one finds out.
    pub async fn put(&mut self, batch: Batch) -> Result<(), ChannelError> {
        #[cfg(feature = "sim")]
        let batch = {
            let mut batch = batch;
            if flumen_runtime::sim::is_planted(flumen_runtime::sim::Planted::PositionAheadOfData) {
                let parts = std::mem::take(&mut batch.parts);
                self.put_at_once(Batch { parts, ..Batch::default() }).await?;
            }
            batch
        };
        self.put_at_once(batch).await
    }

    async fn put_at_once(&mut self, batch: Batch) -> Result<(), ChannelError> {
        let puts = self.puts(batch);
        let (required, optional): (Vec<_>, Vec<_>) =
            puts.into_iter().zip(&self.outlets).partition(|(_, outlet)| outlet.is_required);
        let count = required.iter().map(|(put, _)| put.0.len() as u64).max().unwrap_or(0);
        try_join_all(required.into_iter().map(|((events, advance), outlet)| async move {
            let permit = outlet.credit.acquire(events.len(), cost_of(&events)).await;
            outlet.put(events, advance, permit).await
        }))
        .await?;
        self.counts.put += count;
        for ((events, advance), outlet) in optional {
            let count = events.len() as u64;
            let done = match outlet.credit.try_acquire(events.len(), cost_of(&events)) {
                Ok(permit) => outlet.put(events, advance, permit).await.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = done {
                self.counts.refused += count;
                tracing::debug!(channel = %outlet.channel.name(), %error, "an optional put was refused");
            }
        }
        Ok(())
    }

    /// What each channel gets of `batch`.
    fn puts(&mut self, batch: Batch) -> Vec<(Vec<Event>, Advance)> {
        let now_ms = self.clock.now_ms();
        let advance = Advance { source: self.source.to_string(), parts: batch.parts };
        if self.outlets.iter().all(|outlet| outlet.ahead.parts.is_empty()) {
            let events = batch.events.into_iter().map(|(event, _)| event).collect();
            let events = intercept(&mut self.chain, events, now_ms);
            return self.outlets.iter().map(|_| (events.clone(), advance.clone())).collect();
        }
        // Only until every channel has caught up, which is soon after a failure.
        let mut puts = Vec::new();
        for outlet in &mut self.outlets {
            outlet.ahead.forget(&batch.anew, &advance, self.reading);
            let mine = outlet.ahead.spare(&batch.events);
            puts.push((
                intercept(&mut self.chain, mine, now_ms),
                outlet.ahead.spare_parts(&advance),
            ));
        }
        puts
    }
}

impl Outlet {
    async fn put(
        &self,
        events: Vec<Event>,
        advance: Advance,
        permit: Permit,
    ) -> Result<(), ChannelError> {
        let put = Put { session: self.session, events, advance, permit };
        self.channel.put(put).await.map(drop)
    }
}

impl Ahead {
    fn new(position: Position, lowest: &Position, mark_of: MarkOf) -> Self {
        let parts = ahead_of(&position, lowest, mark_of);
        Self { position, parts }
    }

    /// Is ahead no longer in a part that is not what the channel has read.
    fn forget(&mut self, anew: &[String], advance: &Advance, reading: Reading) {
        for part in anew {
            self.parts.remove(part);
        }
        for (part, moved) in &advance.parts {
            if let (Some(moved), Some(had)) = (moved, self.position.get(part))
                && !(reading.is_same)(had, moved)
            {
                self.parts.remove(part);
            }
        }
    }

    /// The events that the channel does not have yet.
    fn spare(&mut self, events: &[(Event, Mark)]) -> Vec<Event> {
        let has = |mark: &Mark| self.parts.get(&*mark.part).is_some_and(|to| mark.end <= *to);
        let mine = events.iter().filter(|(_, mark)| !has(mark)).map(|(event, _)| event.clone());
        let mine = mine.collect();
        for (_, mark) in events {
            if self.parts.get(&*mark.part).is_some_and(|to| mark.end >= *to) {
                self.parts.remove(&*mark.part);
            }
        }
        mine
    }

    /// The moves that do not take the channel back.
    fn spare_parts(&self, advance: &Advance) -> Advance {
        let parts = advance.parts.iter().filter(|(part, _)| !self.parts.contains_key(part));
        Advance { source: advance.source.clone(), parts: parts.cloned().collect() }
    }
}

/// Of each part, what the channel has least of. A part that one of them does not have at all is
/// begun again; one without a number is the same for all.
fn lowest(positions: &[&Position], mark_of: MarkOf) -> Position {
    let mut lowest = Position::new();
    for (part, bytes) in positions.iter().copied().flatten() {
        let all = positions.iter().map(|position| position.get(part));
        let least = match mark_of(bytes) {
            None => Some(bytes),
            Some(_) => all.min_by_key(|bytes| bytes.and_then(mark_of)).flatten(),
        };
        if let Some(least) = least {
            lowest.insert(part.clone(), least.clone());
        }
    }
    lowest
}

/// Parts of which `position` has more than `lowest`.
fn ahead_of(position: &Position, lowest: &Position, mark_of: MarkOf) -> BTreeMap<String, u64> {
    let mark = |position: &Position, part: &str| position.get(part).and_then(mark_of);
    let ahead = position.keys().filter_map(|part| {
        let mine = mark(position, part)?;
        (mine > mark(lowest, part).unwrap_or(0)).then(|| (part.clone(), mine))
    });
    ahead.collect()
}

#[cfg(test)]
mod tests;
