//! Opening a durable channel: the right to write, the log, the head file, and the credit of what is
//! there already.

use std::{collections::VecDeque, time::Duration};

use actix::prelude::*;
use flumen_runtime::{
    credit::Credit,
    disk::{DiskError, OpenMode, actor::DiskHandle},
    era::{Ticket, take_over},
    ids::{LogId, Offset},
    log::{self, Log, LogPlace, OpenError},
};
use futures::FutureExt;
use uuid::Uuid;

use super::{
    DurableChannel, DurableChannelOptions, Open, Opening, Stage, TICK_EVERY,
    head::{FILE, Head},
    state::{Replayed, Store},
};

/// How long writes of an earlier life may take to end; longer, and the process must.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// What was found on the disk.
pub(super) struct Found {
    disk: DiskHandle,
    ticket: Ticket,
    log: Log,
    head: Head,
    replayed: Replayed,
}

/// Why it is not open.
pub(super) struct Refusal {
    why: String,
    /// There was no room for what had to be written: worth another try.
    is_full: bool,
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self { why, is_full: false }
    }
}

impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Self {
        Self { why: error.to_string(), is_full: error.is_full() }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self { why: error.to_string(), is_full: error.lacks_room() }
    }
}

/// Most bytes of a head file: the sink's state is a few numbers for each of its targets.
const HEAD_BYTES_MAX: usize = 16 << 20;

async fn find(
    options: DurableChannelOptions,
    disk: DiskHandle,
    ticket: Ticket,
    now_ms: i64,
) -> Result<Found, Refusal> {
    let place = LogPlace {
        dir: options.dir.as_path().into(),
        // It does not use the journal, where this would be its name.
        id: LogId { id: Uuid::nil(), shard: 0 },
        ticket: ticket.clone(),
    };
    let mut replayed = Replayed::default();
    let (log, opened) =
        log::open(disk.clone(), place, options.log_config(), Vec::new(), &mut replayed, now_ms)
            .await?;
    if let Some(error) = replayed.error.take() {
        let dir = options.dir.display();
        return Err(format!("the log in `{dir}` is not that of a channel: {error}").into());
    }
    let head = read_head(&options, &disk).await?;
    match head {
        Some(head) => Ok(Found { disk, ticket, log, head, replayed }),
        None if opened.is_new || log.start() == Offset::ZERO => {
            Ok(Found { disk, ticket, log, head: Head::default(), replayed })
        }
        None => {
            let path = options.dir.join(FILE);
            Err(format!("`{}` is missing: restore it from a copy", path.display()).into())
        }
    }
}

async fn read_head(
    options: &DurableChannelOptions,
    disk: &DiskHandle,
) -> Result<Option<Head>, Refusal> {
    let path = options.dir.join(FILE);
    let file = match disk.open(&path, OpenMode::Read).await {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let bytes = disk.read(&file, 0, HEAD_BYTES_MAX).await?;
    let head = Head::decode(&bytes).map_err(|error| format!("`{}` {error}", path.display()))?;
    Ok(Some(head))
}

impl DurableChannel {
    /// Takes over from earlier lives, and reads what is there.
    pub(super) fn open(&mut self, ctx: &mut Context<Self>) {
        let local = self.incarnation.local().clone();
        let disk = match local.metered_disk(&self.options.data_dir, "durable_channel") {
            Ok(disk) => disk,
            Err(error) => return self.go_offline(error.to_string(), ctx),
        };
        let (options, now_ms) = (self.options.clone(), self.clock.now_ms());
        let gate = local.gates().gate(&options.dir);
        let opening = async move {
            let ticket = match take_over(&gate, TAKE_OVER_WITHIN).await {
                Ok(ticket) => ticket,
                Err(error) => {
                    local.fatal(&error);
                    return Err(error.to_string().into());
                }
            };
            find(options, disk, ticket, now_ms).await
        };
        ctx.spawn(opening.into_actor(self).map(|found, act, ctx| match found {
            Ok(found) => act.on_found(found, ctx),
            Err(Refusal { why, is_full: true }) => act.wait_for_room(&why, ctx),
            Err(Refusal { why, .. }) => act.go_offline(why, ctx),
        }));
    }

    /// Tries again in a while; who asked for something is answered then.
    fn wait_for_room(&mut self, why: &str, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.lacks_room, true) {
            tracing::warn!(
                channel = %self.options.name,
                "the disk of the channel is full: it opens when someone has made room: {why}"
            );
        }
        ctx.run_later(TICK_EVERY, |act, ctx| act.open(ctx));
    }

    fn on_found(&mut self, found: Found, ctx: &mut Context<Self>) {
        let Found { disk, ticket, log, head, replayed } = found;
        self.lacks_room = false;
        let (start, end, written_head) = (log.start(), log.end(), head.head);
        let store = match Store::new(head, replayed, start, end, self.incarnation.number()) {
            Ok(store) => store,
            Err(error) => return self.go_offline(error.to_string(), ctx),
        };
        // A new credit admits even more than the whole, alone: the capacity may have been lowered.
        let credit = Credit::new(self.options.capacity.events, self.options.capacity.bytes);
        let (events, bytes) = (store.held().events as usize, store.held().bytes as usize);
        let held = credit.acquire(events, bytes).now_or_never();
        let open = Open {
            disk,
            ticket,
            log,
            store,
            held: held.expect("the first to ask is admitted"),
            credit,
            unsynced: VecDeque::new(),
            waiting: VecDeque::new(),
            opening: Vec::new(),
            is_reading: false,
            written_head,
            is_writing_head: false,
            keeping: Vec::new(),
            attaching: Vec::new(),
            unasked_bytes: 0,
            is_head_due: false,
        };
        let before = std::mem::replace(&mut self.stage, Stage::Open(Box::new(open)));
        let (Stage::Opening { sources, sinks }, Stage::Open(open)) = (before, &mut self.stage)
        else {
            return;
        };
        for (open_source, answer) in sources {
            let source = open_source.source;
            let session = open.store.attach_source(&source);
            open.opening.push(Opening { source, session, end, answer });
        }
        for answer in sinks {
            answer.give(Ok(open.attach_sink()));
        }
        self.ask_for_space(ctx);
        self.drive(ctx);
    }
}
