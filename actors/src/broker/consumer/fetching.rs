//! Where reading begins, and the fetches of each partition: one on its way, the next when its records
//! have room.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{batch, credit::Permit, ids::Offset};
use futures::future::join_all;

use super::{
    Assigned, Lookup, Records, Start,
    actor::ConsumerActor,
    deliveries::{Delivery, Queued, Wanted},
};
use crate::broker::{
    group_coordinator::{
        GroupCoordinator, ids::GroupId, messages::FetchOffsets, records::CommittedOffset,
    },
    names::{Isolation, TopicPartition},
    partition::messages::{At, Fetch, FetchError, Fetched, FindEpochEnd, FindOffset},
};

const RETRY: Duration = Duration::from_millis(50);
const FETCH_BYTES_MIN: usize = 64 << 10;

/// Where each partition begins.
pub(super) type Begins = Vec<Assigned>;

/// Asks the group what it has committed, and the partitions where the rest begins; until it is known.
pub(super) async fn find_beginnings(
    lookup: Arc<dyn Lookup>,
    group: Option<(GroupId, Addr<GroupCoordinator>)>,
    partitions: Vec<(TopicPartition, Start)>,
) -> Begins {
    let wanted: Vec<_> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
    let committed = match group {
        Some((group, coordinator)) => fetch_committed(&coordinator, group, wanted).await,
        None => wanted.into_iter().map(|partition| (partition, None)).collect(),
    };
    let lookup = &lookup;
    let begins =
        committed.into_iter().zip(partitions).map(async |((partition, committed), (_, start))| {
            let position = match (&committed, start) {
                (Some(committed), _) => still_there(lookup, &partition, committed).await,
                (None, Start::Offset(offset)) => offset,
                (None, start) => find(lookup, &partition, start).await,
            };
            let is_cut = committed.as_ref().is_some_and(|committed| position < committed.offset);
            Assigned { partition, position, committed, is_cut }
        });
    join_all(begins).await
}

type Committed = Vec<(TopicPartition, Option<CommittedOffset>)>;

async fn fetch_committed(
    coordinator: &Addr<GroupCoordinator>,
    group: GroupId,
    partitions: Vec<TopicPartition>,
) -> Committed {
    let request = FetchOffsets { group, partitions: Some(partitions) };
    loop {
        if let Ok(Ok(fetched)) = coordinator.send(request.clone()).await {
            return fetched.partitions;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The committed position, or where the epoch in which it was read ended: what lay between is gone, and
/// what stands there now was not read (KIP-320).
async fn still_there(
    lookup: &Arc<dyn Lookup>,
    partition: &TopicPartition,
    committed: &CommittedOffset,
) -> Offset {
    let offset = committed.offset;
    let Some(of) = committed.leader_epoch else { return offset };
    loop {
        // One that is not there holds up no other.
        let Some(leader) = lookup.leader(partition) else { return offset };
        match leader.epochs.send(FindEpochEnd { of, epoch: None }).await {
            // Of the current one it is the end of the log, which moves: a fetch beyond it tells.
            Ok(Ok(Some(ended))) if ended.is_over && ended.end < offset => {
                let end = ended.end;
                tracing::warn!(%partition, committed = %offset, %end, "records that were read are lost; reading on where they were");
                return end;
            }
            Ok(Ok(_)) => return offset,
            // Nor does one that does not serve.
            Ok(Err(FetchError::Offline(offline))) if !offline.is_passing => return offset,
            _ => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn find(lookup: &Arc<dyn Lookup>, partition: &TopicPartition, start: Start) -> Offset {
    let mut at = start.at();
    loop {
        let found = match lookup.leader(partition) {
            Some(leader) => leader.find.send(FindOffset::new(at)).await,
            None => Err(MailboxError::Closed),
        };
        match found {
            Ok(Ok(Some(found))) => return found.offset,
            // No record is that late.
            Ok(Ok(None)) => at = At::Latest,
            _ => tokio::time::sleep(RETRY).await,
        }
    }
}

impl ConsumerActor {
    /// Has a fetch of `partition` on its way, if one is due.
    pub(super) fn fetch(&mut self, partition: &TopicPartition, ctx: &mut Context<Self>) {
        let share = self.options.bytes_max / self.holdings.len().max(1);
        let least = FETCH_BYTES_MIN.min(self.options.fetch_bytes_max);
        let bytes_max = share.clamp(least, self.options.fetch_bytes_max.max(1));
        let wait = self.options.fetch_wait.max(Duration::from_millis(1));
        let Some(holding) = self.holdings.get_mut(partition) else { return };
        let Some(offset) = holding.position.filter(|_| holding.is_idle()) else { return };
        let Some(leader) = self.lookup.leader(partition) else {
            return self.fetch_later(partition, ctx);
        };
        holding.is_fetching = true;
        let (partition, wanted) = (partition.clone(), holding.wanted.clone());
        let is_durable = self.options.durable_only;
        let isolation = if is_durable { Isolation::Durable } else { Isolation::Uncommitted };
        let fetch = Fetch { bytes_max, wait, isolation, ..Fetch::from(offset) };
        let (fetched, traffic) = (leader.fetch.send(fetch).into_actor(self), leader.traffic);
        ctx.spawn(fetched.map(move |fetched, act, ctx| match fetched {
            Ok(Ok(fetched)) => {
                traffic.goes_out(&fetched.batches);
                act.on_fetched(partition, &wanted, offset, fetched, ctx);
            }
            Ok(Err(why)) => act.on_fetch_failed(&partition, &wanted, Some(&why), ctx),
            Err(_) => act.on_fetch_failed(&partition, &wanted, None, ctx),
        }));
    }

    fn fetch_later(&self, partition: &TopicPartition, ctx: &mut Context<Self>) {
        let partition = partition.clone();
        ctx.run_later(RETRY, move |act, ctx| act.fetch(&partition, ctx));
    }

    fn on_fetched(
        &mut self,
        partition: TopicPartition,
        wanted: &Wanted,
        position: Offset,
        fetched: Fetched,
        ctx: &mut Context<Self>,
    ) {
        let Some(holding) = self.holdings.get_mut(&partition) else { return };
        if !holding.wanted.is(wanted) || !wanted.holds() {
            return;
        }
        holding.epoch = Some(fetched.epoch);
        let high_watermark = fetched.marks.high_watermark;
        let next = fetched.batches.last().and_then(|last| batch::end_of(last));
        let Some(next) = next.filter(|next| *next > position) else {
            holding.is_fetching = false;
            return self.fetch(&partition, ctx);
        };
        assert!(next <= high_watermark, "GRP-2: {partition} gave {next} above {high_watermark}");
        let bytes = fetched.bytes();
        let batches = fetched.batches;
        let wanted = wanted.clone();
        let records = move |partition, permit| Records {
            partition,
            position,
            next,
            batches,
            high_watermark,
            permit,
        };
        match self.credit.try_acquire(1, bytes) {
            Ok(permit) => self.on_room(&wanted, records(partition, permit), ctx),
            Err(_) => {
                let permit = self.credit.acquire(1, bytes).into_actor(self);
                ctx.spawn(permit.map(move |permit: Permit, act, ctx| {
                    act.on_room(&wanted, records(partition, permit), ctx);
                }));
            }
        }
    }

    /// The records have room: they are delivered, and the next are fetched.
    fn on_room(&mut self, wanted: &Wanted, records: Records, ctx: &mut Context<Self>) {
        let Some(holding) = self.holdings.get_mut(&records.partition) else { return };
        if !holding.wanted.is(wanted) || !wanted.holds() {
            return;
        }
        let expected = holding.position == Some(records.position);
        assert!(expected, "CONS-1: {records:?} does not follow {:?}", holding.position);
        holding.is_fetching = false;
        holding.position = Some(records.next);
        holding.delivered = holding.delivered.max(records.next);
        let partition = records.partition.clone();
        self.deliver(Queued::Records(wanted.clone(), records));
        self.fetch(&partition, ctx);
    }

    fn on_fetch_failed(
        &mut self,
        partition: &TopicPartition,
        wanted: &Wanted,
        why: Option<&FetchError>,
        ctx: &mut Context<Self>,
    ) {
        let start = self.options.start;
        let Some(holding) = self.holdings.get_mut(partition) else { return };
        if !holding.wanted.is(wanted) || !wanted.holds() {
            return;
        }
        holding.is_fetching = false;
        match why {
            Some(FetchError::OutOfRange { offset, log_start, log_end }) => {
                let position = if start == Start::Latest { *log_end } else { *log_start };
                tracing::warn!(%partition, %offset, %position, "the offset is gone; reading on");
                holding.position = Some(position);
                holding.delivered = holding.delivered.max(position);
                self.fetch(partition, ctx);
            }
            Some(FetchError::Unreadable { offset, reason }) => {
                holding.is_paused = true;
                let (partition, offset) = (partition.clone(), *offset);
                let reason = reason.clone();
                let unreadable = Delivery::Unreadable { partition, offset, reason };
                self.deliver(Queued::Other(unreadable));
            }
            // It opens, moves, or its leader does.
            _ => self.fetch_later(partition, ctx),
        }
    }
}
