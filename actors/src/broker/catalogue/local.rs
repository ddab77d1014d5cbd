//! Coordination by one node for itself: a log in its first data directory.
//!
//! Each record of the log is one [`Change`], sealed with magic and version. Beside it the log keeps
//! the whole catalogue at each recovery point, so that opening reads no more than the changes since.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchHeader, RecordRef},
    clock::Clock,
    codec,
    disk::DiskHandle,
    era, failpoint,
    ids::{LeaderEpoch, LogId, Offset},
    log::{self, Log, LogConfig, LogFailure, LogPlace, OpenError, Owner, Replay},
    placement::Local,
};
use futures::{FutureExt as _, future::LocalBoxFuture, lock::Mutex};

use super::{
    coordination::{Cause, Coordination, CoordinationError},
    state::{Catalogue, CatalogueV1, Change},
};

/// The log's directory in the data directory; a partition's ends in its number.
pub const FOLDER: &str = ".catalogue";
const KIND: [u8; 4] = *b"FLCG";
const STATE_KIND: [u8; 4] = *b"FLCS";
const VERSION: u16 = 1;
/// Of the snapshot; version 1 had no settings of nodes.
const STATE_VERSION: u16 = 2;
/// Most changes of one batch.
const BATCH_CHANGES_MAX: usize = 1_000;
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub struct LocalCoordination {
    kept: Rc<Mutex<Kept>>,
    disk: DiskHandle,
    clock: Arc<dyn Clock>,
}

struct Kept {
    /// The data directory that it is in.
    data: Box<Path>,
    log: Log,
    state: State,
}

/// What the log's changes come to.
#[derive(Default)]
struct State {
    catalogue: Catalogue,
    unreadable: Option<String>,
}

impl State {
    fn take(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), String> {
        let whole = Bytes::copy_from_slice(bytes);
        for record in batch::records(&whole, header).map_err(|error| error.to_string())? {
            let value = record.map_err(|error| error.to_string())?.value.unwrap_or_default();
            let change = codec::unseal(KIND, VERSION, &value).map_err(|error| error.to_string())?;
            self.catalogue.apply(change);
        }
        Ok(())
    }
}

impl Owner for State {
    fn snapshot(&self) -> Option<Bytes> {
        codec::seal(STATE_KIND, STATE_VERSION, &self.catalogue).ok()
    }
}

impl Replay for State {
    fn restore(&mut self, snapshot: &[u8], _: Offset) -> bool {
        if snapshot.is_empty() {
            return true;
        }
        let Ok((version, payload)) = codec::open(STATE_KIND, STATE_VERSION, snapshot) else {
            return false;
        };
        let catalogue = match version {
            1 => codec::decode::<CatalogueV1>(payload).map(Catalogue::from),
            _ => codec::decode(payload),
        };
        catalogue.map(|catalogue| self.catalogue = catalogue).is_ok()
    }

    fn batch(&mut self, header: &BatchHeader, bytes: &[u8]) {
        if let Err(reason) = self.take(header, bytes) {
            let offset = header.base_offset;
            self.unreadable
                .get_or_insert_with(|| format!("the change at offset {offset}: {reason}"));
        }
    }
}

fn failed(reason: impl ToString) -> CoordinationError {
    CoordinationError { reason: reason.to_string(), cause: Cause::Other }
}

/// The disk that keeps `data` is full, which was seen by `what`.
fn full(data: &Path, what: impl ToString) -> CoordinationError {
    let (data, what) = (data.display(), what.to_string());
    let reason = format!("the disk of `{data}` is full: {what}; make room there, and try again");
    CoordinationError { reason, cause: Cause::Full }
}

/// Its log has ended.
fn ended(failure: &LogFailure) -> CoordinationError {
    let cause = if failure.error.is_failed_sync() { Cause::Unsynced } else { Cause::Other };
    CoordinationError { reason: failure.to_string(), cause }
}

/// Makes the catalogue of a node whose first data directory is `data` of `changes`, before any node runs
/// on it; one that was there is replaced. Whole or not at all, and durable, when it returns.
///
/// # Errors
/// What the system says.
pub fn begin_with(data: &Path, changes: &[Change], now_ms: i64) -> io::Result<()> {
    let (beside, dir) = (data.join(format!("{FOLDER}.tmp")), data.join(FOLDER));
    for old in [&beside, &dir] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::create_dir(&beside)?;
    let mut file = fs::File::create(beside.join(format!("{:020}.log", 0)))?;
    for (offset, change) in (0..).zip(changes) {
        let value = codec::seal(KIND, VERSION, change).map_err(io::Error::other)?;
        let mut builder = BatchBuilder::new(now_ms);
        builder.push(RecordRef { timestamp: now_ms, value: Some(&value), ..RecordRef::default() });
        let mut batch = builder.build();
        batch::stamp(&mut batch, Offset(offset), LeaderEpoch(0));
        file.write_all(&batch)?;
    }
    file.sync_all()?;
    fs::File::open(&beside)?.sync_all()?;
    failpoint::pass("import: catalogue beside its place");
    fs::rename(&beside, &dir)?;
    fs::File::open(data)?.sync_all()
}

impl LocalCoordination {
    /// Opens the catalogue of the node whose first data directory is `data`, and returns what stands
    /// in it.
    ///
    /// # Errors
    /// [`CoordinationError`] where its log cannot be opened or read: nothing is taken for deleted
    /// because it cannot be read.
    pub async fn open(
        local: &Rc<Local>,
        data: &Path,
    ) -> Result<(LocalCoordination, Catalogue), CoordinationError> {
        let disk = local.metered_disk(data, "controller").map_err(failed)?;
        let dir = data.join(FOLDER);
        let ticket = match era::take_over(&local.gates().gate(&dir), TAKE_OVER_MAX).await {
            Ok(ticket) => ticket,
            Err(error) => {
                local.fatal(&error);
                return Err(failed(error));
            }
        };
        let place = LogPlace { dir: dir.as_path().into(), id: LogId::default(), ticket };
        let config =
            LogConfig { journal: false, checkpoint_bytes: 256 << 10, ..LogConfig::default() };
        let mut state = State::default();
        let now_ms = local.clock().now_ms();
        let (log, _) = log::open(disk.clone(), place, config, Vec::new(), &mut state, now_ms)
            .await
            .map_err(|error| match error {
                OpenError::Failed(failure) => ended(&failure),
                error if error.lacks_room() => full(data, error),
                error => failed(error),
            })?;
        if let Some(reason) = state.unreadable {
            return Err(failed(format!("`{}` cannot be read: {reason}", dir.display())));
        }
        let catalogue = state.catalogue.clone();
        let kept = Rc::new(Mutex::new(Kept { data: data.into(), log, state }));
        Ok((Self { kept, disk, clock: local.clock().clone() }, catalogue))
    }
}

impl Kept {
    fn check(&self) -> Result<(), CoordinationError> {
        if let Some(failure) = self.log.failure() {
            return Err(ended(failure));
        }
        // Nothing is decided on top of what may be lost (COORD-3).
        self.check_durable()
    }

    /// Appends `changes`, as one batch.
    fn append(&mut self, changes: &[Change], now_ms: i64) -> Result<(), CoordinationError> {
        let mut builder = BatchBuilder::new(now_ms);
        for change in changes {
            let value = codec::seal(KIND, VERSION, change).map_err(failed)?;
            let value = Some(&*value);
            builder.push(RecordRef { timestamp: now_ms, value, ..RecordRef::default() });
        }
        let mut batch = builder.build();
        batch::stamp(&mut batch, self.log.end(), LeaderEpoch(0));
        let header = BatchHeader::parse(&batch).expect("built here");
        self.log.append(batch.freeze(), &header);
        changes.iter().cloned().for_each(|change| self.state.catalogue.apply(change));
        Ok(())
    }

    /// Whether everything is durable; it is not where the disk was full.
    fn check_durable(&self) -> Result<(), CoordinationError> {
        if self.log.durable_end() == self.log.end() {
            return Ok(());
        }
        Err(full(&self.data, "a change was not written"))
    }

    /// Carries out what the log wants until it wants nothing more.
    async fn settle(&mut self, disk: &DiskHandle, now_ms: i64) -> Result<(), CoordinationError> {
        while let Some(io) = self.log.next_io(now_ms, &self.state) {
            let done = io.run(disk.clone()).await;
            self.log.on_io(done).map_err(|failure| ended(&failure))?;
        }
        Ok(())
    }
}

impl Coordination for LocalCoordination {
    fn commit(
        &mut self,
        changes: &[Change],
    ) -> LocalBoxFuture<'static, Result<(), CoordinationError>> {
        let (kept, disk, changes) = (self.kept.clone(), self.disk.clone(), changes.to_vec());
        let now_ms = self.clock.now_ms();
        async move {
            // Changes wait here in the order in which they were committed.
            let mut kept = kept.lock().await;
            kept.check()?;
            for changes in changes.chunks(BATCH_CHANGES_MAX) {
                kept.append(changes, now_ms)?;
            }
            kept.settle(&disk, now_ms).await?;
            kept.check_durable()
        }
        .boxed_local()
    }

    fn close(&mut self) -> LocalBoxFuture<'static, Result<(), CoordinationError>> {
        let (kept, disk, now_ms) = (self.kept.clone(), self.disk.clone(), self.clock.now_ms());
        async move {
            let mut kept = kept.lock().await;
            kept.log.close();
            kept.settle(&disk, now_ms).await
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, path::Path, slice};

    use flumen_runtime::{
        clock::ManualClock,
        disk::sim::{Faults, SimDisks},
        ids::ArbiterId,
        placement::{LocalPlacement, Placement, Services},
        rng::Rng,
    };
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;
    use crate::broker::{
        catalogue::{
            settings::Settings,
            state::{Assigned, NodeId},
        },
        names::TopicName,
    };

    /// Runs `test` on an arbiter of a new process on `disks`.
    async fn in_process<T: Send + 'static, F: Future<Output = T> + 'static>(
        disks: &SimDisks,
        test: impl FnOnce(Rc<Local>) -> F + Send + 'static,
    ) -> T {
        let maker = Arc::new(disks.clone());
        let services = Services::new(Arc::new(ManualClock::at(0)), Rng::seeded(1), maker);
        let placement = LocalPlacement::new(1, services);
        let (done, result) = oneshot::channel();
        let job = Box::new(move |local: &Rc<Local>| {
            let running = test(local.clone());
            drop(tokio::task::spawn_local(async move { drop(done.send(running.await)) }));
        });
        placement.run_on(ArbiterId(0), job).expect("it is there");
        result.await.expect("it ends")
    }

    fn paused(test: impl Future<Output = ()>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    fn create(catalogue: &Catalogue, number: u32) -> Change {
        let name = TopicName::new(&format!("t{number}")).unwrap();
        let id = Uuid::from_u128(number.into());
        catalogue.create(id, &name, 1, Settings::default(), |_| assigned()).unwrap()
    }

    fn disks() -> SimDisks {
        let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
        disks.install(Path::new("/data/.keep"), b"");
        disks
    }

    #[test]
    fn changes_come_back_in_their_order_after_a_power_cut() {
        paused(async {
            let disks = disks();
            let mut wanted = Catalogue::default();
            for number in 0..20 {
                let change = create(&wanted, number);
                wanted.apply(change.clone());
                let name = TopicName::new(&format!("t{number}")).unwrap();
                let growth = wanted.grow(&name, 2, |_| assigned()).unwrap();
                wanted.apply(growth.clone());
                in_process(&disks, move |local| async move {
                    let (mut coordination, _) =
                        LocalCoordination::open(&local, Path::new("/data")).await.unwrap();
                    coordination.commit(slice::from_ref(&change)).await.unwrap();
                    coordination.commit(slice::from_ref(&growth)).await.unwrap();
                })
                .await;
                disks.crash();
            }
            let found = in_process(&disks, |local| async move {
                LocalCoordination::open(&local, Path::new("/data")).await.unwrap().1
            });
            assert_eq!(found.await, wanted, "COORD-2: a growth before its creation would be lost");
        });
    }

    fn assigned() -> Assigned {
        Assigned {
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(0),
            in_sync: vec![NodeId(1)],
            directory: Uuid::nil(),
        }
    }

    #[test]
    fn a_full_disk_refuses_a_change_until_there_is_room_and_the_port_is_opened_again() {
        paused(async {
            let disks = disks();
            let full = disks.clone();
            let known = in_process(&disks, move |local| async move {
                let (mut coordination, mut known) =
                    LocalCoordination::open(&local, Path::new("/data")).await.unwrap();
                full.set_faults(Faults { capacity: 0, ..Faults::none() });
                for number in 0..100 {
                    let change = create(&known, number);
                    if coordination.commit(slice::from_ref(&change)).await.is_err() {
                        full.set_faults(Faults::none());
                        let again = coordination.commit(slice::from_ref(&change)).await;
                        assert!(again.is_err(), "COORD-3: until it is opened again");
                        return known;
                    }
                    known.apply(change);
                }
                panic!("100 changes found room on a full disk");
            });
            let known = known.await;
            let found = in_process(&disks, |local| async move {
                LocalCoordination::open(&local, Path::new("/data")).await.unwrap().1
            });
            assert_eq!(found.await, known, "COORD-1: what was acknowledged before is there");
        });
    }

    #[test]
    fn nothing_is_committed_after_a_failure() {
        paused(async {
            let disks = disks();
            let failing = disks.clone();
            in_process(&disks, move |local| async move {
                let (mut coordination, catalogue) =
                    LocalCoordination::open(&local, Path::new("/data")).await.unwrap();
                let change = create(&catalogue, 1);
                failing.set_faults(Faults { sync_errors: 1000, ..Faults::none() });
                assert!(coordination.commit(slice::from_ref(&change)).await.is_err());
                failing.set_faults(Faults::none());
                let again = coordination.commit(slice::from_ref(&change)).await;
                assert!(again.is_err(), "COORD-3: nobody knows what the disk has");
            })
            .await;
        });
    }
}
