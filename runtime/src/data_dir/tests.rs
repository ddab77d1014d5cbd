//! Directories of every kind: taken, kept from others, or refused untouched.

use super::*;

fn open(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(path, Identity { node: Some(1), cluster: None }, &mut Rng::seeded(7))
}

/// Every name in the directory with its bytes.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = names
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_new_directory_keeps_its_ids() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let first = open(&path).unwrap();
    let ids = (first.node(), first.cluster(), first.id());
    assert!(!first.was_clean());
    drop(first);
    let again =
        DataDir::open(&path, Identity { node: Some(1), cluster: None }, &mut Rng::seeded(8));
    let again = again.unwrap();
    assert_eq!((again.node(), again.cluster(), again.id()), ids);
}

#[test]
fn only_a_clean_stop_is_clean_and_only_once() {
    let root = tempfile::tempdir().unwrap();
    open(root.path()).unwrap().close().unwrap();
    assert_eq!(
        fs::read_to_string(root.path().join(CLEAN)).unwrap(),
        r#"{"version":0,"brokerEpoch":-1}"#
    );
    let second = open(root.path()).unwrap();
    assert!(second.was_clean());
    assert!(!root.path().join(CLEAN).exists(), "DIR-3");
    drop(second);
    assert!(!open(root.path()).unwrap().was_clean(), "the second did not stop cleanly");
}

#[test]
fn a_second_user_is_told_who_has_it_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let _first = open(root.path()).unwrap();
    let refused = open(root.path()).unwrap_err().to_string();
    assert!(refused.contains(&root.path().display().to_string()), "{refused}");
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    assert!(refused.contains("stop that one"), "{refused}");
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    open(root.path()).unwrap().close().unwrap();
    let meta = root.path().join(META);
    let newer = fs::read_to_string(&meta).unwrap().replace("flumen.format=1", "flumen.format=2");
    fs::write(&meta, newer + "something.new=yes\n").unwrap();
    let before = contents(root.path());
    let refused = open(root.path()).unwrap_err();
    assert!(matches!(refused, DataDirError::Newer { found: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("left untouched"), "{refused}");
    assert_eq!(contents(root.path()), before, "DIR-1");
}

#[test]
fn another_program_s_directory_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("thesis.tex"), "x").unwrap();
    let refused = open(root.path()).unwrap_err().to_string();
    assert!(refused.contains("thesis.tex"), "{refused}");
    assert_eq!(contents(root.path()), [("thesis.tex".into(), b"x".to_vec())], "DIR-1");
    fs::write(root.path().join(META), "version=1\nnode.id=1\n").unwrap();
    let refused = open(root.path()).unwrap_err().to_string();
    assert!(refused.contains("another program"), "{refused}");
    assert!(!root.path().join(LOCK).exists(), "DIR-1");
}

#[test]
fn another_node_s_or_cluster_s_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()).unwrap());
    let open = |identity| DataDir::open(root.path(), identity, &mut Rng::seeded(1)).unwrap_err();
    let refused = open(Identity { node: Some(2), cluster: None });
    assert!(matches!(refused, DataDirError::OtherNode { found: 1, wanted: 2, .. }), "{refused:?}");
    let refused = open(Identity { node: Some(1), cluster: Some(Uuid::from_u128(5)) });
    assert!(matches!(refused, DataDirError::OtherCluster { .. }), "{refused:?}");
}

#[test]
fn whether_a_directory_is_in_use_is_seen_without_a_change() {
    let root = tempfile::tempdir().unwrap();
    assert!(!is_in_use(root.path()));
    assert!(!root.path().join(LOCK).exists());
    let running = open(root.path()).unwrap();
    assert!(is_in_use(root.path()));
    drop(running);
    assert!(!is_in_use(root.path()));
}

#[test]
fn a_node_that_is_not_told_its_number_takes_that_of_the_directory() {
    let root = tempfile::tempdir().unwrap();
    for (given, taken) in [(Some(7), 7), (None, 7)] {
        let identity = Identity { node: given, cluster: None };
        let dir = DataDir::open(root.path(), identity, &mut Rng::seeded(1)).unwrap();
        assert_eq!(dir.node(), taken);
    }
    let fresh = tempfile::tempdir().unwrap();
    let dir = DataDir::open(fresh.path(), Identity::default(), &mut Rng::seeded(1)).unwrap();
    assert_eq!(dir.node(), 1);
}

#[test]
fn a_start_that_was_interrupted_is_begun_anew() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(LOCK), "1\n").unwrap();
    fs::write(root.path().join(META_TMP), "version=1\nno").unwrap();
    assert!(open(root.path()).is_ok(), "DIR-2");
}

#[test]
fn a_missing_parent_and_a_file_in_the_way_are_named() {
    let root = tempfile::tempdir().unwrap();
    let refused = open(&root.path().join("mount/data")).unwrap_err().to_string();
    assert!(refused.contains("mounted") && refused.contains("mount`"), "{refused}");
    fs::write(root.path().join("file"), "").unwrap();
    let refused = open(&root.path().join("file")).unwrap_err();
    assert!(matches!(refused, DataDirError::Io { .. }), "{refused:?}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    // Stands in the way even of root, whom permissions do not stop.
    fs::create_dir(root.path().join(META_TMP)).unwrap();
    let refused = open(root.path()).unwrap_err().to_string();
    assert!(refused.contains(META) && refused.contains("may write"), "{refused}");
}
