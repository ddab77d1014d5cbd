//! The port on the files of this machine.

use std::{io::Write, os::unix::fs::symlink};

use super::*;

#[test]
fn a_file_keeps_its_identity_through_a_rename_and_tells_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    File::create(&old).unwrap().write_all(b"hello\n").unwrap();
    let mut files = SystemFiles;
    let (handle, opened) = files.open(&old).unwrap();
    fs::rename(&old, &new).unwrap();
    let renamed = files.stat(&new).unwrap();
    assert_eq!((renamed.key, renamed.born_ns, renamed.len), (opened.key, opened.born_ns, 6));
    assert_eq!(files.list(dir.path()).unwrap(), [("a.log.1".to_owned(), opened.key.inode)]);
    fs::remove_file(&new).unwrap();
    assert_eq!(files.stat_open(&handle).unwrap().links, 0);
    assert_eq!(files.read(&handle, 2, 100).unwrap(), "llo\n");
    assert_eq!(files.read(&handle, 7, 100).unwrap(), "");
}

#[test]
fn only_regular_files_are_opened_and_a_link_is_the_file_that_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.log");
    File::create(&file).unwrap();
    let link = dir.path().join("link.log");
    symlink(&file, &link).unwrap();
    let fifo = dir.path().join("fifo.log");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let (to_fifo, to_dir, to_nothing) =
        (dir.path().join("f.log"), dir.path().join("d.log"), dir.path().join("n.log"));
    symlink(&fifo, &to_fifo).unwrap();
    symlink(dir.path(), &to_dir).unwrap();
    symlink("nothing", &to_nothing).unwrap();
    let mut files = SystemFiles;
    for other in [&fifo, &to_fifo, &to_dir] {
        assert!(!files.stat(other).unwrap().is_regular && files.open(other).is_err());
    }
    assert!(files.stat(&to_nothing).is_err() && files.open(dir.path()).is_err());
    let (_, of_file) = files.open(&file).unwrap();
    assert_eq!(files.open(&link).unwrap().1, of_file);
    assert_eq!(files.stat(&link).unwrap().key, of_file.key);
    let names: Vec<_> = files.list(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.log", "fifo.log"], "links are no rotated siblings");
}

#[test]
fn a_pattern_is_seen_anew_each_time_and_a_wrong_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pattern = format!("{}/*.log", dir.path().display());
    let mut files = SystemFiles;
    assert_eq!(files.glob(&pattern).unwrap(), Vec::<PathBuf>::new());
    File::create(dir.path().join("b.log")).unwrap();
    File::create(dir.path().join("a.log")).unwrap();
    assert_eq!(files.glob(&pattern).unwrap(), [dir.path().join("a.log"), dir.path().join("b.log")]);
    assert_eq!(files.glob("/x/a**b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
