//! The channel's messages on the durable one: translate, and leave the deciding to the core.

use actix::prelude::*;
use flumen_runtime::ids::Offset;

use super::{DurableChannel, Open, Opening, Stage, TakeAnswer};
use crate::{
    agent::channel::{
        AttachSink, ChannelError, ChannelStatus, CommitTake, KeepSinkState, OpenSource, Put,
        PutDone, RollbackTake, SinkAttached, SourceOpened, Status, Take, Taken, parked::Parked,
    },
    answer::{Answering, later},
};

impl Handler<OpenSource> for DurableChannel {
    type Result = Answering<Result<SourceOpened, ChannelError>>;

    fn handle(&mut self, open_source: OpenSource, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        match &mut self.stage {
            Stage::Opening { sources, .. } => sources.push((open_source, answer)),
            Stage::Open(open) => {
                let source = open_source.source;
                let session = open.store.attach_source(&source);
                open.opening.push(Opening { source, session, end: open.log.end(), answer });
                self.drive(ctx);
            }
            Stage::Offline(why) => {
                let (channel, why) = (self.options.name.clone(), why.clone());
                answer.give(Err(ChannelError::Offline { channel, why }));
            }
        }
        answering
    }
}

impl Handler<Put> for DurableChannel {
    type Result = Answering<Result<PutDone, ChannelError>>;

    fn handle(&mut self, put: Put, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.put(put, answer, ctx);
        answering
    }
}

impl Handler<AttachSink> for DurableChannel {
    type Result = Answering<Result<SinkAttached, ChannelError>>;

    fn handle(&mut self, _: AttachSink, _: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.parked = None;
        match &mut self.stage {
            Stage::Opening { sinks, .. } => sinks.push(answer),
            Stage::Open(open) if open.is_writing_head => open.attaching.push(answer),
            Stage::Open(open) => answer.give(Ok(open.attach_sink())),
            Stage::Offline(why) => {
                let (channel, why) = (self.options.name.clone(), why.clone());
                answer.give(Err(ChannelError::Offline { channel, why }));
            }
        }
        answering
    }
}

impl Open {
    pub(super) fn attach_sink(&mut self) -> SinkAttached {
        SinkAttached {
            session: self.store.attach_sink(),
            head: self.store.ledger().head(),
            sink_state: self.store.sink_state().cloned(),
            is_durable: true,
        }
    }
}

impl Handler<Take> for DurableChannel {
    type Result = Answering<Result<Option<Taken>, ChannelError>>;

    fn handle(&mut self, take: Take, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        match self.for_sink(take.session) {
            Err(error) => answer.give(Err(error)),
            Ok(_) => {
                if let Some(earlier) = self.parked.take() {
                    earlier.give(Ok(None), ctx);
                }
                self.park(take, answer, ctx);
                self.serve(ctx);
            }
        }
        answering
    }
}

impl DurableChannel {
    fn park(&mut self, take: Take, answer: TakeAnswer, ctx: &mut Context<Self>) {
        self.parked = Some(Parked::new(take, answer, ctx, |act: &mut Self, ctx| {
            if let Some(parked) = act.parked.take() {
                parked.give(Ok(None), ctx);
            }
        }));
    }
}

impl Handler<CommitTake> for DurableChannel {
    type Result = Result<(), ChannelError>;

    fn handle(&mut self, commit: CommitTake, ctx: &mut Self::Context) -> Self::Result {
        let open = self.for_sink(commit.session)?;
        match open.store.commit(commit.transaction, commit.sink_state) {
            Ok(freed) => open.give_back(freed),
            Err(error) => return Err(self.transaction_error(error)),
        }
        self.write_head(false, ctx);
        Ok(())
    }
}

impl Handler<RollbackTake> for DurableChannel {
    type Result = Result<(), ChannelError>;

    fn handle(&mut self, rollback: RollbackTake, ctx: &mut Self::Context) -> Self::Result {
        let rolled_back = self.for_sink(rollback.session)?.store.rollback(rollback.transaction);
        rolled_back.map_err(|error| self.transaction_error(error))?;
        self.serve(ctx);
        Ok(())
    }
}

impl Handler<KeepSinkState> for DurableChannel {
    type Result = Answering<Result<(), ChannelError>>;

    fn handle(&mut self, keep: KeepSinkState, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        match self.for_sink(keep.session) {
            Err(error) => answer.give(Err(error)),
            Ok(open) => {
                open.store.keep_sink_state(keep.sink_state);
                open.keeping.push(answer);
                self.write_head(true, ctx);
            }
        }
        answering
    }
}

impl Handler<Status> for DurableChannel {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        let mut status = ChannelStatus {
            head: Offset::ZERO,
            taken: Offset::ZERO,
            end: Offset::ZERO,
            events: 0,
            bytes: 0,
            capacity: self.options.capacity,
            offline: None,
        };
        match &self.stage {
            Stage::Open(open) => {
                let (ledger, held) = (open.store.ledger(), open.held.amount());
                (status.head, status.taken, status.end) =
                    (ledger.head(), ledger.taken(), ledger.end());
                (status.events, status.bytes) = (held.count, held.bytes);
            }
            Stage::Offline(why) => status.offline = Some(why.clone()),
            Stage::Opening { .. } => {}
        }
        MessageResult(status)
    }
}
