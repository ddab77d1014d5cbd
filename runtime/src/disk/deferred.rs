//! Writes that are put off: what is durable in the journal, and not in its file yet.
//!
//! ```text
//!   commit ──► gate of the log ──┬──► the file, before the log does anything else with it,
//!                                │              before the journal syncs it,
//!                                │              or by the log's next life, before it reads
//!                                └──► readers
//! ```
//!
//! A write costs 6 µs however small it is (ext4, half of it for the file's time), and a log that is
//! written lightly would make one for each batch: a fifth of what a thousand of them take. So these gather
//! with the gate of the log, where each of its lives finds them, and go to the file in one.
//!
//! # Invariants
//! - DEF-1: what is put off continues what is put off already, in the same file.
//! - DEF-2: of one era, one put-off write is under way at a time, so that none lands on what came later;
//!   a later era begins when none is (ERA-2).

use std::{rc::Rc, sync::Arc};

use actix::{Context, Handler, Message, WrapFuture as _};
use bytes::Bytes;

use super::{Disk, DiskError, Done, File, Op, Reply, actor::DiskActor, inline};
use crate::{
    era::{Era, Ticket},
    meters::Meter,
};

/// What is put off: the bytes that follow `position` in `file`.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// Whose. Each era writes what the one before has put off, before it puts off anything.
    era: Era,
    file: File,
    position: u64,
    /// A copy: the batches may be parts of much larger buffers.
    bytes: Vec<u8>,
}

impl Deferred {
    /// Nothing yet, at `position`.
    pub(crate) fn at(era: Era, file: &File, position: u64) -> Deferred {
        Deferred { era, file: file.clone(), position, bytes: Vec::new() }
    }

    /// Whether it was put off by `era` or one before.
    pub(crate) fn is_of(&self, era: Era) -> bool {
        self.era <= era
    }

    fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }

    /// Puts off `bufs`, too, which belong to `position` in `file`.
    pub(crate) fn push(&mut self, file: &File, position: u64, bufs: &[Bytes]) {
        let is_same = file.path().as_os_str() == self.file.path().as_os_str();
        assert!(is_same && position == self.end(), "DEF-1: it goes on where the last one ended");
        bufs.iter().for_each(|buf| self.bytes.extend_from_slice(buf));
    }

    /// What is left when the file has all up to `end`.
    pub(crate) fn after(mut self, end: u64) -> Option<Deferred> {
        let written = end.saturating_sub(self.position).min(self.bytes.len() as u64);
        self.bytes.drain(..written as usize);
        self.position += written;
        (!self.bytes.is_empty()).then_some(self)
    }

    /// Where its file has to be written, and with what.
    pub(crate) fn parts(&self) -> (File, u64, Bytes) {
        (self.file.clone(), self.position, Bytes::copy_from_slice(&self.bytes))
    }
}

/// Makes the writes that were put off until now; see [`DiskHandle::write_deferred`].
///
/// [`DiskHandle::write_deferred`]: super::actor::DiskHandle::write_deferred
pub(crate) async fn write_deferred(
    driver: Rc<dyn Disk>,
    ticket: Ticket,
    meter: Option<Arc<Meter>>,
) -> Result<(), DiskError> {
    let _turn = ticket.turn().await;
    let Some((file, position, bytes)) = ticket.gate.deferred(ticket.era)? else { return Ok(()) };
    let end = position + bytes.len() as u64;
    let written =
        driver.submit(Op::Write { file, position, bufs: vec![bytes], ticket: ticket.clone() });
    if let (Some(stalled), Some(meter)) = (inline::take_stall(), meter) {
        meter.stalls.note(stalled);
    }
    written.await?;
    ticket.gate.note_written(ticket.era, end);
    Ok(())
}

/// Has the writes made that a log has put off.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct WriteDeferred {
    /// The right to write the log.
    pub ticket: Ticket,
    /// Where the outcome goes.
    pub reply: Reply,
    /// Where it is counted if it holds up the arbiter.
    pub meter: Option<Arc<Meter>>,
}

impl Handler<WriteDeferred> for DiskActor {
    type Result = ();

    fn handle(&mut self, message: WriteDeferred, ctx: &mut Context<Self>) {
        let WriteDeferred { ticket, reply, meter } = message;
        let written = write_deferred(self.driver.clone(), ticket, meter);
        let answered = async move {
            // Whoever asked may be gone by now: it is written all the same.
            let _ = reply.send(written.await.map(|()| Done::Unit));
        };
        actix::AsyncContext::spawn(ctx, answered.into_actor(self));
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex, time::Duration};

    use futures::{FutureExt as _, future::LocalBoxFuture};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        disk::{
            DiskHandle, OpenMode, Pending,
            sim::{Faults, SimDisks},
        },
        era::{EraGate, take_over},
        ids::ArbiterId,
        rng::Rng,
    };

    /// A disk whose operations end when the test says so.
    #[derive(Default)]
    struct Slow(Mutex<Vec<(Op, Reply)>>);

    impl Slow {
        fn under_way(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        /// Ends the oldest one; where it writes, and what.
        fn end(&self) -> (u64, Bytes) {
            let (op, reply) = self.0.lock().unwrap().remove(0);
            reply.send(Ok(Done::Unit)).unwrap();
            match op {
                Op::Write { position, mut bufs, .. } => (position, bufs.remove(0)),
                other => panic!("{other:?}"),
            }
        }
    }

    impl Disk for Slow {
        fn submit(&self, op: Op) -> Pending {
            let (reply, answer) = oneshot::channel();
            self.submit_to(op, reply);
            answer.map(|answer| answer.unwrap()).boxed_local()
        }

        fn submit_to(&self, op: Op, reply: Reply) {
            self.0.lock().unwrap().push((op, reply));
        }

        fn wait(&self, _: Duration) -> LocalBoxFuture<'static, ()> {
            unreachable!("nobody waits")
        }

        fn describe(&self) -> String {
            String::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn put_off_writes_are_made_one_at_a_time_and_by_the_next_era_if_not() {
        let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
        let path = Path::new("/segment");
        let work = async {
            let disk = DiskHandle::start(disks.disk_for(ArbiterId(0)));
            disk.open(path, OpenMode::CreateNew).await.unwrap()
        };
        let file = tokio::task::LocalSet::new().run_until(work).await;
        let gate = EraGate::new(path);
        let old = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        let slow = Rc::new(Slow::default());
        let write =
            |ticket: &Ticket| write_deferred(slow.clone(), ticket.clone(), None).boxed_local();

        gate.defer(old.era, (&file, 0), &["one,".into()]).unwrap();
        let mut journals = write(&old);
        assert!((&mut journals).now_or_never().is_none());
        gate.defer(old.era, (&file, 4), &["two,".into()]).unwrap();
        let mut logs = write(&old);
        assert!((&mut logs).now_or_never().is_none());
        assert_eq!(
            slow.under_way(),
            1,
            "DEF-2: the first would land on what comes after the second"
        );
        assert_eq!(slow.end(), (0, "one,".into()));
        assert_eq!(journals.now_or_never(), Some(Ok(())));
        assert!((&mut logs).now_or_never().is_none());
        assert_eq!(slow.end(), (4, "two,".into()));
        assert_eq!(logs.now_or_never(), Some(Ok(())));
        assert!(!gate.is_deferring(old.era));

        gate.defer(old.era, (&file, 8), &["three".into()]).unwrap();
        let mut late = write(&old);
        assert!((&mut late).now_or_never().is_none());
        let new = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        assert!(gate.defer(old.era, (&file, 13), &["four".into()]).is_err(), "ERA-1");
        assert!(write(&old).now_or_never().is_none(), "the old one has its turn still");
        slow.end();
        assert_eq!(late.now_or_never(), Some(Ok(())));
        assert!(gate.is_deferring(old.era), "a superseded era does not say what is written");
        assert!(matches!(write(&old).now_or_never(), Some(Err(DiskError::Fenced(_)))));
        let mut writes = write(&new);
        assert!((&mut writes).now_or_never().is_none());
        assert_eq!(slow.end(), (8, "three".into()));
        assert_eq!(writes.now_or_never(), Some(Ok(())));
        assert!(!gate.is_deferring(old.era));
        gate.defer(new.era, (&file, 13), &["four".into()]).unwrap();
        assert!(gate.is_deferring(new.era) && !gate.is_deferring(old.era), "it is the new one's");
    }
}
