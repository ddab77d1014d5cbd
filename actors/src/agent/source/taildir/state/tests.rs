//! The decisions of the core, one by one; all of them together stand in the model of `turn`.

use super::*;

fn limits() -> Limits {
    Limits { chunk_bytes: 8, line_bytes_max: 100, ..Limits::default() }
}

fn stat(inode: u64, len: u64) -> FileStat {
    FileStat {
        key: FileKey { device: 1, inode },
        born_ns: None,
        written_ns: 1_000_000,
        len,
        links: 1,
        is_regular: true,
    }
}

fn sighting(name: &str, stat: FileStat) -> Sighting {
    let path = PathBuf::from(format!("/logs/{name}"));
    Sighting { family: path.clone(), path, is_matched: true, stat }
}

const NOW: Duration = Duration::ZERO;

/// What a turn brings, and the next one too where the first only says where following begins.
fn read_all(tail: &mut Tail, contents: &BTreeMap<u64, &'static [u8]>) -> TailBatch {
    let is_beginning = tail.is_beginning;
    let begun = read(tail, contents);
    if !is_beginning {
        return begun;
    }
    assert!(begun.lines.is_empty());
    let batch = read(tail, contents);
    TailBatch { parts: [begun.parts, batch.parts].concat(), ..batch }
}

/// A file's content, read through the core until its budget or the content ends.
fn read(tail: &mut Tail, contents: &BTreeMap<u64, &'static [u8]>) -> TailBatch {
    tail.begin_reads();
    while let Some(plan) = tail.next_read() {
        let content = Bytes::from_static(contents[&plan.key.inode]);
        let from = content.len().min(plan.position as usize);
        let to = content.len().min(from + plan.len);
        tail.on_read(plan, &content.slice(from..to));
    }
    tail.end_turn()
}

fn open(tail: &mut Tail, name: &str, inode: u64, content: &[u8]) {
    let seen = sighting(name, stat(inode, content.len() as u64));
    tail.begin_scan();
    assert!(tail.on_sighting(&seen, NOW));
    assert!(tail.on_opened(&seen, &seen.stat, &content[..content.len().min(256)], NOW));
    tail.end_scan(NOW);
}

fn texts(batch: &TailBatch) -> Vec<&str> {
    batch.lines.iter().map(|line| std::str::from_utf8(&line.body).unwrap()).collect()
}

fn position_of(batches: &[TailBatch]) -> Position {
    let mut position = Position::new();
    for (part, to) in batches.iter().flat_map(|batch| batch.parts.clone()) {
        match to {
            Some(bytes) => position.insert(part, bytes),
            None => position.remove(&part),
        };
    }
    position
}

#[test]
fn a_busy_file_does_not_starve_the_others() {
    let busy: &[u8] = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
    let contents = BTreeMap::from([(1, busy), (2, b"a\nb\n".as_slice())]);
    let limits = Limits { turn_lines_max: 8, ..limits() };
    let mut tail = Tail::new(limits, &Position::new(), 1).unwrap();
    open(&mut tail, "busy.log", 1, busy);
    open(&mut tail, "calm.log", 2, contents[&2]);
    let batch = read_all(&mut tail, &contents);
    assert_eq!(texts(&batch), ["1", "2", "3", "4", "a", "b", "5", "6"]);
    assert!(batch.has_more);
    assert_eq!(texts(&read_all(&mut tail, &contents)), ["7", "8", "9", "10"]);
}

#[test]
fn a_line_longer_than_a_chunk_is_read_whole_and_its_beginning_is_held_back() {
    let contents = BTreeMap::from([(1, b"a line longer than a chunk\nrest".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    let batch = read_all(&mut tail, &contents);
    assert_eq!(texts(&batch), ["a line longer than a chunk"]);
    assert_eq!((batch.lines[0].start, batch.lines[0].end), (0, 27));
    assert!(!batch.has_more, "the rest has no end yet");
}

#[test]
fn a_file_that_became_shorter_is_read_from_its_beginning_and_counted() {
    let contents = BTreeMap::from([(1, b"one\ntwo\n".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    read_all(&mut tail, &contents);
    let contents = BTreeMap::from([(1, b"new\n".as_slice())]);
    tail.on_stat(FileKey { device: 1, inode: 1 }, &stat(1, 4), NOW);
    assert_eq!(texts(&read_all(&mut tail, &contents)), ["new"]);
    assert_eq!(tail.counts().truncations, 1);
}

#[test]
fn an_inode_number_that_came_back_with_another_file_is_read_from_its_beginning() {
    let contents = BTreeMap::from([(1, b"one\ntwo\n".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    let position = position_of(&[read_all(&mut tail, &contents)]);

    let mut same = Tail::new(limits(), &position, 1).unwrap();
    open(&mut same, "a.log.1", 1, contents[&1]);
    assert_eq!(texts(&read_all(&mut same, &contents)), [""; 0], "renamed, and read before");

    let contents = BTreeMap::from([(1, b"uno\ndue\n".as_slice())]);
    let mut other = Tail::new(limits(), &position, 1).unwrap();
    open(&mut other, "a.log", 1, contents[&1]);
    assert_eq!(texts(&read_all(&mut other, &contents)), ["uno", "due"]);
    assert_eq!(other.counts().replaced, 1);
}

#[test]
fn only_a_file_that_was_there_at_the_first_start_is_begun_at_its_end() {
    let contents = BTreeMap::from([(1, b"old\n".as_slice()), (2, b"new\n".as_slice())]);
    let limits = Limits { begin: Begin::End, ..limits() };
    let mut tail = Tail::new(limits.clone(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    let first = read_all(&mut tail, &contents);
    open(&mut tail, "b.log", 2, contents[&2]);
    let second = read_all(&mut tail, &contents);
    assert_eq!((texts(&first), texts(&second)), (vec![], vec!["new"]));

    let mut again = Tail::new(limits, &position_of(&[first, second]), 5).unwrap();
    open(&mut again, "a.log", 1, b"old\nafter\n");
    let contents = BTreeMap::from([(1, b"old\nafter\n".as_slice())]);
    assert_eq!(texts(&read_all(&mut again, &contents)), ["after"]);
}

/// What there is of `/logs/a.log.1`, which no pattern matches and which was written long ago.
fn rotated(stat: FileStat) -> Sighting {
    let family = PathBuf::from("/logs/a.log");
    Sighting { path: "/logs/a.log.1".into(), family, is_matched: false, stat }
}

#[test]
fn a_file_that_is_rotated_before_a_line_of_it_was_read_is_no_history() {
    let content: &[u8] = b"one\ntwo\n";
    let contents = BTreeMap::from([(1, content), (2, b"a\n".as_slice())]);
    let late_ms = 5_000_000;
    // There is room for one file, and none is left for the second.
    let limits = Limits { open_files_max: 1, ..limits() };
    let mut tail = Tail::new(limits.clone(), &Position::new(), late_ms).unwrap();
    let (first, second) = (sighting("b.log", stat(2, 2)), sighting("a.log", stat(1, 8)));
    tail.begin_scan();
    assert!(tail.on_sighting(&first, NOW));
    assert!(tail.on_opened(&first, &first.stat, b"a\n", NOW));
    assert!(!tail.on_sighting(&second, NOW), "no room");
    tail.end_scan(NOW);
    let begun = read(&mut tail, &contents);
    assert_eq!((texts(&begun), begun.has_more), (vec![], true), "first the position");
    let position = position_of(&[begun]);
    assert_eq!(position.keys().collect::<Vec<_>>(), ["1:1", "1:2", STARTED]);

    // It dies, and both are rotated meanwhile.
    let mut next = Tail::new(limits, &position, late_ms + 1000).unwrap();
    let seen = rotated(stat(1, 8));
    next.begin_scan();
    assert!(next.on_sighting(&seen, NOW) && next.on_opened(&seen, &seen.stat, content, NOW));
    next.end_scan(NOW);
    assert_eq!(texts(&read(&mut next, &contents)), ["one", "two"]);
    let other = rotated(FileStat { written_ns: 0, ..stat(3, 8) });
    assert!(!next.is_worth(other.is_matched, &other.stat), "what lay there before is history");
}

#[test]
fn a_clock_that_is_ahead_of_that_of_the_files_makes_no_history_of_what_comes() {
    let written = |inode, ms: i64| FileStat { written_ns: ms * 1_000_000, ..stat(inode, 8) };
    let hour_ahead = 3_600_000;
    let mut tail = Tail::new(limits(), &Position::new(), hour_ahead).unwrap();
    let (current, old) = (sighting("a.log", written(1, 500)), rotated(written(2, 500)));
    tail.begin_scan();
    assert!(!tail.on_sighting(&old, NOW), "it lay there before");
    assert!(tail.on_sighting(&current, NOW));
    assert!(tail.on_opened(&current, &current.stat, b"one\ntwo\n", NOW));
    tail.end_scan(NOW);

    let position = position_of(&[tail.end_turn()]);
    let mut next = Tail::new(limits(), &position, hour_ahead).unwrap();
    next.begin_scan();
    assert!(!next.on_sighting(&old, NOW), "it lay there before");
    assert!(next.on_sighting(&rotated(written(3, 501)), NOW), "came and went between two scans");
}

#[test]
fn a_source_has_begun_when_the_position_of_the_last_file_is_out() {
    let limits = Limits { open_files_max: 1, begin: Begin::End, ..limits() };
    let mut tail = Tail::new(limits, &Position::new(), 1).unwrap();
    tail.begin_scan();
    let count = FIRST_PARTS_MAX as u64 + 10;
    for inode in 1..=count {
        let seen = sighting(&format!("{inode}.log"), stat(inode, 8));
        if tail.on_sighting(&seen, NOW) {
            assert!(tail.on_opened(&seen, &seen.stat, b"one\ntwo\n", NOW));
        }
    }
    tail.end_scan(NOW);
    let first = tail.end_turn();
    assert_eq!((first.parts.len(), first.has_more), (FIRST_PARTS_MAX, true));
    assert!(!position_of(std::slice::from_ref(&first)).contains_key(STARTED));
    let second = tail.end_turn();
    assert!(!second.has_more);
    let position = position_of(&[first, second]);
    assert_eq!(position.len() as u64, count + 1);
    let offsets = position.iter().filter(|(part, _)| *part != STARTED);
    assert!(offsets.into_iter().all(|(_, bytes)| saved::offset_of(bytes) == Some(8)));
}

#[test]
fn a_removed_file_is_closed_once_quiet_at_its_end_and_forgotten() {
    let contents = BTreeMap::from([(1, b"one\ntwo\nhalf".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    let key = FileKey { device: 1, inode: 1 };
    let gone = FileStat { links: 0, ..stat(1, 12) };
    tail.on_stat(key, &gone, NOW);
    assert_eq!(tail.close_quiet(Duration::from_secs(60)), [], "not read to its end");
    let first = read_all(&mut tail, &contents);
    assert_eq!(tail.close_quiet(Duration::from_secs(4)), [], "not quiet for long enough");
    assert_eq!(tail.close_quiet(Duration::from_secs(5)), [key]);
    let parts = position_of(&[first, tail.end_turn()]);
    assert_eq!(parts.keys().collect::<Vec<_>>(), [STARTED]);
    assert_eq!(tail.counts().unended, 1);
}

#[test]
fn a_closed_file_is_forgotten_only_when_it_has_been_gone_for_long() {
    let contents = BTreeMap::from([(1, b"one\n".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    read_all(&mut tail, &contents);
    let scan_at = |tail: &mut Tail, seconds| {
        tail.begin_scan();
        tail.end_scan(Duration::from_secs(seconds));
    };
    scan_at(&mut tail, 1);
    assert_eq!(tail.close_quiet(Duration::from_secs(9)).len(), 1, "it lost its name");
    scan_at(&mut tail, 10);
    scan_at(&mut tail, 3609);
    assert!(!tail.families().is_empty());
    scan_at(&mut tail, 3610);
    assert!(tail.families().is_empty());
    assert_eq!(tail.end_turn().parts, [("1:1".to_owned(), None)]);
}

#[test]
fn a_closed_file_that_grew_is_opened_again_where_it_was_left() {
    let contents = BTreeMap::from([(1, b"one\n".as_slice())]);
    let mut tail = Tail::new(limits(), &Position::new(), 1).unwrap();
    open(&mut tail, "a.log", 1, contents[&1]);
    read_all(&mut tail, &contents);
    tail.begin_scan();
    tail.end_scan(NOW);
    tail.close_quiet(Duration::from_secs(60));
    tail.begin_scan();
    assert!(!tail.on_sighting(&sighting("a.log.1", stat(1, 4)), NOW), "nothing new in it");
    tail.end_scan(NOW);
    open(&mut tail, "a.log.1", 1, b"one\nlate\n");
    let contents = BTreeMap::from([(1, b"one\nlate\n".as_slice())]);
    assert_eq!(texts(&read_all(&mut tail, &contents)), ["late"]);
}

#[test]
fn rotated_names_are_numbered_the_higher_the_older() {
    let number = |name| rotation_number(Path::new(name), Path::new("/l/a.log")).0;
    assert_eq!(
        (number("/l/a.log"), number("/l/a.log.12"), number("/l/a.log.20260101")),
        (0, 12, 0)
    );
}
