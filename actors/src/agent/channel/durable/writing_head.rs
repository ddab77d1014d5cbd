//! Writing the head file: soon after a commit, at once where someone waits for it, and again and again
//! where the disk has no room for it. Until then the old one stands, which does no harm ([`head`] says
//! why), and frees nothing.

use actix::{fut::wrap_future, prelude::*};
use flumen_runtime::{disk::DiskError, failpoint, ids::Offset};

use super::{DurableChannel, HEAD_EVERY, Open, Stage, head};
use crate::{agent::channel::ChannelError, answer::Answer};

type Keeping = Vec<Answer<Result<(), ChannelError>>>;

impl DurableChannel {
    /// Writes the head file, soon or now.
    pub(super) fn write_head(&mut self, now: bool, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else { return };
        if open.is_writing_head {
            return;
        }
        if !now {
            if !open.is_head_due {
                open.is_head_due = true;
                ctx.run_later(HEAD_EVERY, |act, ctx| {
                    if let Stage::Open(open) = &mut act.stage {
                        open.is_head_due = false;
                    }
                    act.write_head(true, ctx);
                });
            }
            return;
        }
        let head = open.store.head();
        let (offset, keeping) = (head.head, std::mem::take(&mut open.keeping));
        open.is_writing_head = true;
        let path = self.options.dir.join(head::FILE);
        let writing = open.disk.write_atomically(&path, head.encode(), &open.ticket);
        ctx.spawn(wrap_future(writing).map(move |written, act: &mut Self, ctx| match written {
            Ok(()) => {
                failpoint::pass("channel: head written");
                keeping.into_iter().for_each(|answer| answer.give(Ok(())));
                act.on_head_written(offset, ctx);
            }
            Err(error) if error.is_full() => act.on_head_refused(keeping, &error),
            Err(error) => {
                let why = format!("its head file cannot be written: {error}");
                keeping.into_iter().for_each(|answer| answer.give(Err(act.offline(&why))));
                act.go_offline(why, ctx);
            }
        }));
    }

    fn on_head_written(&mut self, head: Offset, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else { return };
        open.is_writing_head = false;
        open.written_head = head;
        open.let_sinks_attach();
        if std::mem::take(&mut self.lacks_room) {
            tracing::warn!(channel = %self.options.name, "its head file is written again");
        }
        let oldest = open.log.segments().next().map(|segment| segment.end);
        if open.log.segments().count() > 1 && oldest.is_some_and(|end| end <= head) {
            open.log.trim_to(head);
        }
        let is_due = !open.keeping.is_empty() || self.draining.is_some();
        if open.store.ledger().head() != head || !open.keeping.is_empty() {
            self.write_head(is_due, ctx);
        }
        self.drive(ctx);
    }

    /// There was no room for it: whoever waits for it waits on, until a tick finds some.
    fn on_head_refused(&mut self, keeping: Keeping, error: &DiskError) {
        let Stage::Open(open) = &mut self.stage else { return };
        open.is_writing_head = false;
        open.keeping.extend(keeping);
        open.let_sinks_attach();
        if !std::mem::replace(&mut self.lacks_room, true) {
            tracing::warn!(
                channel = %self.options.name,
                "its head file cannot be written, and waits until someone has made room: {error}"
            );
        }
    }
}

impl Open {
    /// Lets the sinks attach that waited, unless what one of them is to know is not durable yet.
    fn let_sinks_attach(&mut self) {
        if self.keeping.is_empty() {
            for answer in std::mem::take(&mut self.attaching) {
                let attached = self.attach_sink();
                answer.give(Ok(attached));
            }
        }
    }
}
