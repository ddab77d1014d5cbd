//! The tailer against a model of files that grow, rotate and get each other's inode numbers while it
//! looks at them, with a tailer that dies at any moment.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    rc::Rc,
};

use bytes::Bytes;
use flumen_runtime::rng::Rng;

use super::*;
use crate::agent::{
    event::{Advance, Position, Positions},
    source::taildir::{
        files::{FileStat, SystemFiles},
        saved::STARTED,
        state::{Limits, TailedLine},
    },
};

const KEPT_MAX: usize = 4;
const LINE_BYTES_MAX: usize = 40;

/// What one inode holds, and what the test knows of it.
#[derive(Default)]
struct Inode {
    number: u64,
    data: Vec<u8>,
    born_ns: i64,
    written_ns: i64,
    links: u64,
    opened: u64,
    /// Lines that have an end, as the tailer has to deliver them.
    lines: Vec<String>,
    unended: String,
    /// How many of them were delivered and committed.
    delivered: usize,
    is_history: bool,
}

/// One log that rotates; the number of the inode that its writer has open.
struct Family {
    name: String,
    writes_to: Option<usize>,
}

struct World {
    rng: Rng,
    now_ns: i64,
    tells_birth: bool,
    names: BTreeMap<PathBuf, usize>,
    inodes: Vec<Inode>,
    families: Vec<Family>,
    may_rotate: bool,
    is_calm: bool,
    reused_numbers: u64,
    rotations: u64,
}

/// Whether the pattern of this run also matches rotated names.
fn matches_rotated(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let tells_birth = rng.chance(1, 2);
        let mut world = World {
            rng,
            now_ns: 1_000_000_000_000,
            tells_birth,
            names: BTreeMap::new(),
            inodes: Vec::new(),
            families: Vec::new(),
            may_rotate: false,
            is_calm: false,
            reused_numbers: 0,
            rotations: 0,
        };
        for name in ["a.log", "b.log"] {
            let family = Family { name: format!("/logs/{name}"), writes_to: None };
            if !matches_rotated(seed) {
                // What was rotated long before the first start is history.
                let old = world.create(&format!("{}.1", family.name));
                world.inodes[old].is_history = true;
                world.inodes[old].data = b"history\n".to_vec();
            }
            // What was written long before and is there when following begins is none.
            let matched = world.create(&family.name);
            world.inodes[matched].unended = format!("f{matched}-0;");
            world.inodes[matched].data = world.inodes[matched].unended.clone().into_bytes();
            world.end_line(matched);
            world.families.push(family);
        }
        world.now_ns += 1_000_000_000;
        world
    }

    /// The clock that stamps files ticks every 4 ms.
    fn stamp(&self) -> i64 {
        self.now_ns - self.now_ns % 4_000_000
    }

    fn create(&mut self, path: &str) -> usize {
        let is_free = |number: &u64| {
            self.inodes.iter().all(|i| i.number != *number || (i.links == 0 && i.opened == 0))
        };
        let number = (10..).find(is_free).unwrap();
        self.reused_numbers += u64::from(self.inodes.iter().any(|i| i.number == number));
        let at = self.stamp();
        let inode = Inode { number, born_ns: at, written_ns: at, links: 1, ..Inode::default() };
        self.inodes.push(inode);
        assert!(self.names.insert(path.into(), self.inodes.len() - 1).is_none());
        self.inodes.len() - 1
    }

    /// Something happens to the files, or nothing.
    fn wiggle(&mut self) {
        if self.is_calm {
            return;
        }
        self.now_ns += self.rng.below(3_000_000) as i64;
        for _ in 0..self.rng.below(4) {
            let family = self.rng.below(self.families.len() as u64) as usize;
            match self.rng.below(10) {
                0 if self.may_rotate => self.rotate(family),
                1 | 2 => self.reopen(family),
                _ => self.write(family),
            }
        }
    }

    /// A writer may go on writing to a file that was renamed, until it opens the new one.
    fn reopen(&mut self, family: usize) {
        let path = self.families[family].name.clone();
        if let Some(old) = self.families[family].writes_to.take() {
            self.end_line(old);
            self.inodes[old].opened -= 1;
        }
        let inode = match self.names.get(Path::new(&path)) {
            Some(inode) => *inode,
            None => self.create(&path),
        };
        self.inodes[inode].opened += 1;
        self.families[family].writes_to = Some(inode);
    }

    fn write(&mut self, family: usize) {
        let Some(at) = self.families[family].writes_to else { return self.reopen(family) };
        let is_long = self.rng.chance(1, 8);
        let length = self.rng.below(if is_long { 120 } else { 20 });
        let inode = &mut self.inodes[at];
        // Any piece of it tells which text of which file it comes from.
        let token = format!("f{at}-{};", inode.data.len());
        let text = token.repeat(1 + length as usize / token.len());
        inode.unended.push_str(&text);
        inode.data.extend_from_slice(text.as_bytes());
        inode.written_ns = self.now_ns - self.now_ns % 4_000_000;
        if self.rng.chance(3, 4) {
            self.end_line(at);
        }
    }

    fn end_line(&mut self, at: usize) {
        let ends: &[u8] = if self.rng.chance(1, 5) { b"\r\n" } else { b"\n" };
        let stamp = self.stamp();
        let inode = &mut self.inodes[at];
        if inode.unended.is_empty() {
            return;
        }
        inode.data.extend_from_slice(ends);
        inode.written_ns = stamp;
        let line = std::mem::take(&mut inode.unended);
        let pieces = line.as_bytes().chunks(LINE_BYTES_MAX);
        inode.lines.extend(pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap()));
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`, and so on; the oldest goes if it was delivered whole.
    fn rotate(&mut self, family: usize) {
        let path = self.families[family].name.clone();
        let named =
            |n: usize| PathBuf::from(if n == 0 { path.clone() } else { format!("{path}.{n}") });
        if let Some(oldest) = self.names.get(&named(KEPT_MAX)).copied() {
            let inode = &self.inodes[oldest];
            let is_done = inode.is_history || inode.delivered == inode.lines.len();
            let is_written = self.families.iter().any(|f| f.writes_to == Some(oldest));
            if !is_done || is_written || !inode.unended.is_empty() {
                return;
            }
            self.names.remove(&named(KEPT_MAX));
            self.inodes[oldest].links = 0;
        }
        for n in (0..KEPT_MAX).rev() {
            if let Some(inode) = self.names.remove(&named(n)) {
                self.names.insert(named(n + 1), inode);
            }
        }
        self.rotations += 1;
        if self.rng.chance(1, 2) {
            self.create(&path);
        }
    }
}

#[derive(Clone)]
struct ModelFiles(Rc<RefCell<World>>);

struct Opened {
    world: Rc<RefCell<World>>,
    inode: usize,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.world.borrow_mut().inodes[self.inode].opened -= 1;
    }
}

impl ModelFiles {
    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.0.borrow().names.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn stat_of(&self, inode: usize) -> FileStat {
        let world = self.0.borrow();
        let inode = &world.inodes[inode];
        FileStat {
            key: FileKey { device: 1, inode: inode.number },
            born_ns: world.tells_birth.then_some(inode.born_ns),
            written_ns: inode.written_ns,
            len: inode.data.len() as u64,
            links: inode.links,
            is_regular: true,
        }
    }
}

impl Files for ModelFiles {
    type Handle = Rc<Opened>;

    fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        self.0.borrow_mut().wiggle();
        let pattern = glob::Pattern::new(pattern).unwrap();
        Ok(self
            .0
            .borrow()
            .names
            .keys()
            .filter(|path| pattern.matches_path(path))
            .cloned()
            .collect())
    }

    fn list(&mut self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        // Names move while they are listed.
        let mut names = BTreeMap::new();
        let all: Vec<PathBuf> = self.0.borrow().names.keys().cloned().collect();
        for path in all.iter().filter(|path| path.parent() == Some(dir)) {
            if let Ok(inode) = self.find(path) {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                names.insert(name, self.0.borrow().inodes[inode].number);
            }
            self.0.borrow_mut().wiggle();
        }
        Ok(names.into_iter().collect())
    }

    fn stat(&mut self, path: &Path) -> io::Result<FileStat> {
        self.0.borrow_mut().wiggle();
        Ok(self.stat_of(self.find(path)?))
    }

    fn open(&mut self, path: &Path) -> io::Result<(Rc<Opened>, FileStat)> {
        self.0.borrow_mut().wiggle();
        let inode = self.find(path)?;
        self.0.borrow_mut().inodes[inode].opened += 1;
        let handle = Rc::new(Opened { world: self.0.clone(), inode });
        Ok((handle, self.stat_of(inode)))
    }

    fn stat_open(&mut self, file: &Rc<Opened>) -> io::Result<FileStat> {
        self.0.borrow_mut().wiggle();
        Ok(self.stat_of(file.inode))
    }

    fn read(&mut self, file: &Rc<Opened>, position: u64, len: usize) -> io::Result<Bytes> {
        self.0.borrow_mut().wiggle();
        let world = self.0.borrow();
        let data = &world.inodes[file.inode].data;
        let start = data.len().min(position as usize);
        let end = data.len().min(start + len);
        Ok(Bytes::copy_from_slice(&data[start..end]))
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        line_bytes_max: LINE_BYTES_MAX,
        chunk_bytes: 8 + rng.below(60) as usize,
        turn_bytes_max: 30 + rng.below(400) as usize,
        turn_lines_max: 1 + rng.below(12) as usize,
        close_delay: Duration::from_millis(rng.below(40)),
        open_files_max: 3 + rng.below(8) as usize,
        ..Limits::default()
    }
}

/// One run, and what it went through.
struct Run {
    world: Rc<RefCell<World>>,
    positions: Positions,
    seed: u64,
    restarts: u64,
    repeats_prevented: u64,
}

impl Run {
    fn tailer(&mut self, rng: &mut Rng) -> Tailer<ModelFiles> {
        let position = self.positions.of("tail");
        // In every other run, the clock of the tailer is an hour ahead of that of the files.
        let ahead_ms = if self.seed.is_multiple_of(2) { 3_600_000 } else { 0 };
        let now_ms = self.world.borrow().now_ns / 1_000_000 + ahead_ms;
        let tail = Tail::new(limits(rng), &position, now_ms).unwrap();
        let pattern = if matches_rotated(self.seed) { "/logs/*.log*" } else { "/logs/*.log" };
        Tailer::new(ModelFiles(self.world.clone()), vec![pattern.into()], tail)
    }

    /// Takes a batch over as a channel does: its lines and its position, or neither.
    fn commit(&mut self, batch: TailBatch) {
        for TailedLine { key, body, start, .. } in batch.lines {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let world = &mut *self.world.borrow_mut();
            let is_next =
                |i: &Inode| i.number == key.inode && i.lines.get(i.delivered) == Some(&text);
            let of = world.inodes.iter().position(is_next);
            let of = of.unwrap_or_else(|| {
                panic!("seed {}: {text:?} at {start} is out of order, or comes twice", self.seed)
            });
            world.inodes[of].delivered += 1;
        }
        self.positions.apply(&Advance { source: "tail".into(), parts: batch.parts });
        // What was rotated before following began is history.
        let has_begun = self.positions.of("tail").contains_key(STARTED);
        self.world.borrow_mut().may_rotate |= has_begun;
    }
}

fn run(seed: u64) -> Run {
    let mut rng = Rng::seeded(seed).split("tailer");
    let world = Rc::new(RefCell::new(World::new(seed)));
    let mut run =
        Run { world, positions: Positions::default(), seed, restarts: 0, repeats_prevented: 0 };
    let now = |run: &Run| Duration::from_nanos(run.world.borrow().now_ns as u64);
    let mut tailer = run.tailer(&mut rng);
    for _ in 0..300 {
        let batch = tailer.turn(now(&run), rng.chance(1, 3));
        let dies = rng.chance(1, 25);
        if dies && rng.chance(1, 2) {
            run.repeats_prevented += u64::from(!batch.lines.is_empty());
        } else {
            run.commit(batch);
        }
        if dies {
            drop(tailer);
            for _ in 0..rng.below(80) {
                run.world.borrow_mut().wiggle();
            }
            run.restarts += 1;
            tailer = run.tailer(&mut rng);
        }
    }
    for family in 0..2 {
        run.world.borrow_mut().reopen(family);
    }
    run.world.borrow_mut().is_calm = true;
    let mut quiet_turns = 0;
    while quiet_turns < 20 {
        run.world.borrow_mut().now_ns += 10_000_000;
        let batch = tailer.turn(now(&run), true);
        quiet_turns = if batch.lines.is_empty() { quiet_turns + 1 } else { 0 };
        run.commit(batch);
    }
    run
}

#[test]
fn every_line_is_delivered_once_and_in_order_however_files_rotate_and_tailers_die() {
    let (mut rotations, mut reused, mut restarts, mut repeats, mut lines) = (0, 0, 0, 0, 0);
    for seed in 0..40 {
        let run = run(seed);
        let world = run.world.borrow();
        for (at, inode) in world.inodes.iter().enumerate().filter(|(_, inode)| !inode.is_history) {
            let missing = inode.lines.get(inode.delivered);
            assert_eq!(missing, None, "seed {seed}: file {at} lacks lines from there on");
            lines += inode.delivered;
        }
        rotations += world.rotations;
        reused += world.reused_numbers;
        restarts += run.restarts;
        repeats += run.repeats_prevented;
    }
    let seen = [rotations, reused, restarts, repeats, lines as u64];
    assert!(seen.iter().all(|n| *n > 100), "vacuous: {seen:?}");
}

#[test]
fn history_and_files_of_other_kinds_are_left_alone() {
    let mut world = World::new(1);
    world.is_calm = true;
    let world = Rc::new(RefCell::new(world));
    let tail = Tail::new(Limits::default(), &Position::new(), 2_000_000_000).unwrap();
    let mut tailer = Tailer::new(ModelFiles(world), vec!["/logs/*.log".into()], tail);
    let batch = tailer.turn(Duration::ZERO, true);
    let parts: BTreeSet<_> = batch.parts.iter().map(|(part, _)| part.as_str()).collect();
    // The two that match, and neither of those that were rotated.
    assert_eq!((batch.lines.len(), parts), (0, BTreeSet::from(["1:11", "1:13", "started"])));
}

#[test]
fn a_file_is_read_once_though_a_link_leads_to_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, elsewhere) = (dir.path().join("logs"), dir.path().join("elsewhere"));
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(logs.join("a.log"), "one\n").unwrap();
    std::fs::write(elsewhere.join("b.txt"), "two\n").unwrap();
    std::os::unix::fs::symlink("a.log", logs.join("link.log")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("b.txt"), logs.join("b.log")).unwrap();
    // No name of a rotation leads out of the directory.
    std::os::unix::fs::symlink(elsewhere.join("b.txt"), logs.join("a.log.1")).unwrap();
    let tail = Tail::new(Limits::default(), &Position::default(), 0).unwrap();
    let pattern = format!("{}/*.log", logs.display());
    let mut tailer = Tailer::new(SystemFiles, vec![pattern], tail);
    let mut read = Vec::new();
    for second in 0..4 {
        let batch = tailer.turn(Duration::from_secs(second), true);
        read.extend(batch.lines.into_iter().map(|line| line.body));
    }
    read.sort();
    assert_eq!(read, ["one", "two"]);
    assert!(tailer.take_troubles().is_empty());
}
