//! Files of a later version, in a directory that is otherwise of this one: each is refused with a
//! sentence, and what it stands for is left byte for byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use flumen::{
    node::{self, NodeError},
    pipeline::PipelineError,
};
use flumen_actors::broker::partition::messages::Fetch;
use flumen_runtime::ids::Offset;

use crate::{
    channel_of, golden,
    make::{ACCESSES, LINES, contents, options, partition, pipeline},
    records,
};

/// What is in `dir` but for who holds it.
fn kept(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = contents(dir);
    all.remove(".lock");
    all
}

/// Writes the next version into `file`, wherever `magic` begins something; the number has its low byte
/// so many bytes behind.
fn make_newer(file: &Path, magic: &[u8; 4], low_byte: usize) {
    let mut bytes = fs::read(file).unwrap();
    let found: Vec<usize> =
        (0..bytes.len() - low_byte).filter(|at| bytes[*at..].starts_with(magic)).collect();
    assert!(!found.is_empty(), "{} has no {}", file.display(), magic.escape_ascii());
    for at in found {
        assert_eq!(bytes[at + low_byte], 1, "its version");
        bytes[at + low_byte] = 2;
    }
    fs::write(file, bytes).unwrap();
}

/// The node does not start, says these words, and changes nothing.
#[track_caller]
fn assert_refused(data: &Path, words: &[&str]) {
    let before = kept(data);
    let started = node::run(options(data), |_| async { Ok::<(), NodeError>(()) });
    let refused = started.unwrap_err().to_string();
    for words in words {
        assert!(refused.contains(words), "{refused}");
    }
    assert_same(&kept(data), &before);
}

/// The same files, with the same bytes.
#[track_caller]
fn assert_same(now: &BTreeMap<String, Vec<u8>>, before: &BTreeMap<String, Vec<u8>>) {
    let names = now.keys().chain(before.keys());
    let changed: BTreeSet<_> = names.filter(|name| now.get(*name) != before.get(*name)).collect();
    assert!(changed.is_empty(), "written, made or removed: {changed:?}");
}

#[test]
fn a_data_directory_of_a_newer_format_is_left_byte_for_byte() {
    let (_root, data) = golden("v1");
    let meta = data.join("meta.properties");
    let newer = fs::read_to_string(&meta).unwrap().replace("flumen.format=1", "flumen.format=2");
    fs::write(&meta, newer).unwrap();
    assert_refused(&data, &["format 2", "left untouched", "newer program"]);
}

#[test]
fn a_newer_journal_keeps_the_node_from_touching_anything() {
    let (_root, data) = golden("v1");
    make_newer(&data.join(".journal/1-0-1"), b"FLMJ", 4);
    assert_refused(&data, &["1-0-1", "version 2", "left untouched", "newer program"]);
}

#[test]
fn the_mark_of_a_newer_clean_stop_keeps_the_node_from_touching_anything() {
    let (_root, data) = golden("v1-clean");
    make_newer(&data.join("flumen-clean-stop"), b"FLCL", 4);
    assert_refused(&data, &["flumen-clean-stop", "version 2", "left untouched", "newer program"]);
}

#[test]
fn a_newer_recovery_point_takes_its_partition_offline_and_no_other() {
    for version in ["v1", "v1-clean"] {
        let (_root, data) = golden(version);
        let dir = data.join("access-0");
        let right = fs::read(dir.join("recovery-point")).unwrap();
        make_newer(&dir.join("recovery-point"), b"FLRP", 5);
        // The mark of a clean stop says the same again; without it the file itself is read.
        let _ = fs::remove_file(data.join("flumen-clean-stop"));
        let before = contents(&dir);
        node::run(options(&data), |node| async move {
            let at = node.broker().partition(&partition("access")).unwrap();
            let refused = at.send(Fetch::from(Offset::ZERO)).await.unwrap().unwrap_err();
            for words in ["access-0", "recovery-point", "format 2", "left as it is", "newer flumen"]
            {
                assert!(refused.to_string().contains(words), "{refused}");
            }
            let lines = records(&node, &partition("lines")).await;
            assert_eq!(lines.len() as u64, LINES, "the others serve");
            Ok::<(), NodeError>(())
        })
        .unwrap();
        assert_same(&contents(&dir), &before);

        // Nothing is lost, also not what the journal alone had.
        fs::write(dir.join("recovery-point"), right).unwrap();
        node::run(options(&data), |node| async move {
            let found = records(&node, &partition("access")).await;
            assert_eq!(found.len() as u64, ACCESSES);
            Ok::<(), NodeError>(())
        })
        .unwrap();
    }
}

#[test]
fn a_newer_head_takes_its_channel_offline() {
    for version in ["v1", "v1-clean"] {
        let (_root, data) = golden(version);
        let dir = data.join("channels/golden/buffer");
        make_newer(&dir.join("head"), b"FLCH", 4);
        let before = contents(&dir);
        node::run(options(&data), |node| async move {
            let running = pipeline("nothing-*.log").start(&node).await?;
            let refused = loop {
                // It is being opened.
                tokio::task::yield_now().await;
                let channel = channel_of(&running).await;
                assert_eq!(channel.end, Offset::ZERO, "it was opened");
                if let Some(refused) = channel.offline {
                    break refused;
                }
            };
            for words in ["head", "version 2", "newer program"] {
                assert!(refused.contains(words), "{refused}");
            }
            running.stop().await;
            Ok::<(), PipelineError>(())
        })
        .unwrap();
        assert_same(&contents(&dir), &before);
    }
}
