//! An outlet that writes files, each whole or not there.
//!
//! `part-<topic>-<partition>-<first>-<last>` holds what records `first` to `last` (20 digits each)
//! gave, a line a result. It is written beside its place, synced, renamed, and its directory synced:
//! so the names say what has been put out, and a stage that begins again goes on after them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::{batch::RecordView, failpoint, ids::Offset};
use futures::{FutureExt as _, future::LocalBoxFuture};
use tracing::warn;

use super::{
    Operators,
    outlet::{Begin, Outlet, StageError, State},
};

#[derive(Default)]
struct Part {
    /// First offset that no file covers.
    first: Offset,
    lines: Vec<u8>,
    is_empty: bool,
}

/// See the module.
pub struct Files {
    operators: Operators<Bytes>,
    dir: PathBuf,
    parts: BTreeMap<TopicPartition, Part>,
}

impl Files {
    /// Writes the results of `operators` below `dir`, which is made where it is missing.
    #[must_use]
    pub fn new(operators: Operators<Bytes>, dir: impl Into<PathBuf>) -> Self {
        Self { operators, dir: dir.into(), parts: BTreeMap::new() }
    }
}

fn refused(path: &Path, error: &io::Error) -> StageError {
    StageError::Refused { what: format!("`{}`", path.display()), reason: error.to_string() }
}

/// Makes `dir` where it is missing, each directory above it durable before the one below.
fn make(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let Some(parent) = dir.parent() else { return Ok(()) };
    if !dir.is_dir() {
        make(parent)?;
        // Another member of the stage may have been first.
        std::fs::create_dir_all(&dir)?;
    } else if std::fs::read_dir(&dir)?.next().is_some() {
        // Nothing is put into a directory before its name is durable.
        return Ok(());
    }
    std::fs::File::open(parent)?.sync_all()
}

/// The offset after the last that a file of `partition` in `dir` covers.
fn covered(dir: &Path, partition: &TopicPartition) -> io::Result<Option<Offset>> {
    make(dir)?;
    let prefix = format!("part-{partition}-");
    let mut covered = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let last = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix))
            .and_then(|range| range.split_once('-'))
            .and_then(|(first, last)| {
                Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
            });
        if let Some((_, last)) = last {
            covered = covered.max(Some(Offset(last).next()));
        }
    }
    Ok(covered)
}

fn write(dir: &Path, name: &str, lines: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let file = std::fs::File::create(&temporary)?;
    io::Write::write_all(&mut &file, lines)?;
    file.sync_data()?;
    std::fs::rename(&temporary, dir.join(name))?;
    std::fs::File::open(dir)?.sync_all()
}

/// Runs what blocks away from the arbiter.
async fn apart<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| refused(path, &error)),
        Err(error) => Err(refused(path, &io::Error::other(error))),
    }
}

impl Outlet for Files {
    /// Files outlast a power cut, and their names say which records are in them.
    fn takes_durable_only(&self) -> bool {
        true
    }

    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        Begin { position, is_cut, .. }: Begin<'a>,
    ) -> LocalBoxFuture<'a, Result<Offset, StageError>> {
        async move {
            let (dir, of) = (self.dir.clone(), partition.clone());
            let covered = apart(&self.dir, move || covered(&dir, &of)).await?;
            let first = covered.unwrap_or_default().max(position);
            if is_cut && first > position {
                let dir = self.dir.display();
                warn!(%partition, %position, %first, %dir, "records are lost that are in files: those that come in their place are passed over");
            }
            self.parts.insert(partition.clone(), Part { first, is_empty: true, ..Part::default() });
            Ok(position)
        }
        .boxed_local()
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<usize, StageError> {
        let part = self.parts.entry(partition.clone()).or_default();
        if record.offset < part.first {
            return Ok(0);
        }
        part.is_empty = false;
        let lines = &mut part.lines;
        let taken = self.operators.run(record, &mut |item| {
            lines.extend_from_slice(&item.value);
            lines.push(b'\n');
        });
        taken.map(|()| 0).map_err(|error| StageError::Value {
            partition: partition.clone(),
            offset: record.offset,
            error,
        })
    }

    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        next: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>> {
        async move {
            let part = self.parts.entry(partition.clone()).or_default();
            if part.is_empty || next <= part.first {
                return Ok(State::new());
            }
            let name = format!("part-{partition}-{:020}-{:020}", part.first.0, next.0 - 1);
            let lines = std::mem::take(&mut part.lines);
            (part.first, part.is_empty) = (next, true);
            let dir = self.dir.clone();
            apart(&self.dir, move || write(&dir, &name, &lines)).await?;
            failpoint::pass("files: part written");
            Ok(State::new())
        }
        .boxed_local()
    }

    fn end(&mut self, partition: &TopicPartition) {
        self.parts.remove(partition);
    }
}
