//! Directories as Kafka leaves them, made here; `tests/kafka_dir.rs` takes over those of Kafka itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flumen_runtime::{
    batch::{self, Attributes, BatchBuilder, BatchHeader, Compression, RecordRef},
    codec::crc32c,
    ids::{LeaderEpoch, Offset},
    log::LogConfig,
};

use super::*;
use crate::broker::partition::replay::Replayed;

const META: &str = "#\nversion=1\nnode.id=7\ncluster.id=AAECAwQFBgcICQoLDA0ODw\ndirectory.id=YEPCGCRsDdf1mNXwax2x7w\n";
const ID: &str = "version: 0\ntopic_id: PaSJ3ruOQ5CPW7rvFoP7GA\n";

/// A directory that Kafka has left in order, with one partition `orders-0` of these batches.
struct Kafka(tempfile::TempDir);

impl Kafka {
    fn with(batches: &[Vec<u8>]) -> Self {
        let kafka = Self(tempfile::tempdir().unwrap());
        kafka.put("meta.properties", META.as_bytes());
        kafka.put(".kafka_cleanshutdown", br#"{"version":0,"brokerEpoch":5}"#);
        kafka.put(".lock", b"");
        kafka.partition("orders-0", batches);
        kafka
    }

    fn partition(&self, name: &str, batches: &[Vec<u8>]) {
        self.put(&format!("{name}/00000000000000000000.log"), &batches.concat());
        self.put(&format!("{name}/partition.metadata"), ID.as_bytes());
        self.put(&format!("{name}/leader-epoch-checkpoint"), b"0\n1\n3 0\n");
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn take_over(&self) -> Result<Option<Imported>, ImportError> {
        take_over(&[self.path().to_path_buf()], Some(NodeId(1)), 1_000)
    }

    /// It is refused with a sentence that says this, and nothing of it is touched.
    #[track_caller]
    fn is_refused(&self, words: &str) {
        let before = files(self.path());
        let why = self.take_over().unwrap_err().to_string();
        assert!(why.contains(words), "no `{words}` in: {why}");
        assert_eq!(files(self.path()), before);
    }
}

/// All files below `dir`, with their contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Three records of producer 40, at `offset`.
fn records(offset: u64, attributes: u16) -> Vec<u8> {
    let sequence = i32::try_from(offset).unwrap();
    let mut builder = BatchBuilder::new(500).producer(40, 0, sequence);
    builder = builder.attributes(Attributes(attributes));
    for value in [b"a", b"b", b"c"] {
        let value = Some(value.as_slice());
        builder.push(RecordRef { timestamp: 500, value, ..RecordRef::default() });
    }
    stamped(builder, offset)
}

fn stamped(builder: BatchBuilder, offset: u64) -> Vec<u8> {
    let mut batch = builder.build();
    batch::stamp(&mut batch, Offset(offset), LeaderEpoch(3));
    batch.to_vec()
}

/// The marker that ends the transaction of producer 40: kind 0 aborts.
fn marker(offset: u64, kind: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(500).producer(40, 0, -1);
    builder = builder.attributes(Attributes(Attributes::CONTROL | Attributes::TRANSACTIONAL));
    let (key, value) = ([0, 0, 0, kind], [0, 0, 0, 0, 0, 9]);
    let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
    builder.push(RecordRef { timestamp: 500, key, value, headers: &[] });
    stamped(builder, offset)
}

#[test]
fn what_is_taken_over_is_ours_and_knows_its_producers_and_its_aborted_transactions() {
    let batches = [records(0, 0), records(3, Attributes::TRANSACTIONAL), marker(6, 0)];
    let kafka = Kafka::with(&batches);
    fs::create_dir(kafka.path().join("__share_group_state-0")).unwrap();
    let imported = kafka.take_over().unwrap().unwrap();
    let left = vec![kafka.path().join("__share_group_state-0")];
    let wanted = Imported { topics: 1, partitions: 1, offsets: 7, left, ..Imported::default() };
    assert_eq!(imported, wanted);
    assert_eq!(kafka.take_over().unwrap(), None, "it is ours now");
    let state = fs::read(kafka.path().join("orders-0/00000000000000000007.snapshot")).unwrap();
    let replayed = Replayed::restored(&state).unwrap();
    assert_eq!(replayed.producers.tail(ProducerId(40)).unwrap().last_sequence, 5);
    let aborted = replayed.transactions.aborted();
    assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (Offset(3), Offset(6)));
    let text = fs::read_to_string(kafka.path().join("meta.properties")).unwrap();
    assert!(text.contains("node.id=1\n") && text.contains("AAECAwQFBgcICQoLDA0ODw"), "{text}");
}

/// All files of an import, but for the lock.
fn relative(kafka: &Kafka) -> Vec<(PathBuf, Vec<u8>)> {
    let below = |path: PathBuf| path.strip_prefix(kafka.path()).unwrap().to_path_buf();
    files(kafka.path()).into_iter().map(|(path, bytes)| (below(path), bytes)).collect()
}

/// Two partitions, one of which was compacted, in a directory that Kafka has left in order.
fn of_two_kinds() -> Kafka {
    let batches = [records(0, 0), records(3, Attributes::TRANSACTIONAL), marker(6, 0)];
    let kafka = Kafka::with(&batches);
    kafka.partition("orders-1", &[records(3, 0)]);
    kafka.put("orders-1/00000000000000000009.log", &records(9, 0));
    kafka.put("orders-1/00000000000000000009.log.deleted", b"gone");
    kafka
}

#[test]
fn a_node_that_is_not_named_is_the_one_that_kafka_s_was() {
    let (named, unnamed) = (of_two_kinds(), of_two_kinds());
    for (kafka, node) in [(&named, Some(NodeId(7))), (&unnamed, None)] {
        take_over(&[kafka.path().to_path_buf()], node, 1_000).unwrap().unwrap();
    }
    assert_eq!(relative(&unnamed), relative(&named));
    let other = of_two_kinds();
    other.take_over().unwrap();
    assert_ne!(relative(&other), relative(&named), "the number is in its files");
}

const KILLED: &str = "FLUMEN_TEST_IMPORT_KILLED";

/// The import of the test below: it starts this executable once more, for this test alone.
#[test]
#[ignore = "it is the import that the other test kills"]
fn import_that_is_killed() {
    let Ok(told) = std::env::var(KILLED) else { return };
    let [path, point, nth] = told.split('\n').collect::<Vec<_>>()[..] else { panic!("{told}") };
    failpoint::arm(point, nth.parse().unwrap());
    take_over(&[path.into()], Some(NodeId(1)), 1_000).unwrap();
}

/// Whether the import of `kafka` dies at `point` when it comes by for the nth time.
fn dies(kafka: &Kafka, point: &str, nth: u32) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    let told = format!("{}\n{point}\n{nth}", kafka.path().display());
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "broker::kafka_import::tests::import_that_is_killed"])
        .env(KILLED, told)
        .output()
        .unwrap();
    let is_killed = child.status.signal() == Some(9);
    assert!(is_killed || child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    is_killed
}

#[test]
fn an_import_that_is_killed_anywhere_is_made_again_to_the_same_end() {
    let whole = of_two_kinds();
    whole.take_over().unwrap();
    let mut kills = 0;
    for (point, times) in [
        ("import: begun", 1),
        ("adopt: gap filled", 1),
        ("adopt: marked", 1),
        ("adopt: state written", 2),
        ("adopt: recovery point written", 2),
        ("import: catalogue beside its place", 1),
        ("import: catalogue written", 1),
        ("import: directory taken", 1),
    ] {
        for nth in 1..=times {
            let cut = of_two_kinds();
            assert!(dies(&cut, point, nth), "`{point}` {nth} is never reached");
            // Killed once more, where it comes by there again.
            dies(&cut, point, nth);
            cut.take_over().unwrap();
            assert_eq!(relative(&cut), relative(&whole), "`{point}` {nth}");
            kills += 1;
        }
    }
    assert_eq!(kills, 10);
}

#[test]
fn an_import_whose_files_were_left_half_is_made_again_to_the_same_end() {
    let (whole, cut) = (of_two_kinds(), of_two_kinds());
    whole.take_over().unwrap();
    cut.take_over().unwrap();
    // All but the last step is done, and some of it half.
    cut.put("meta.properties", META.as_bytes());
    cut.put("flumen-import", b"");
    cut.put(".catalogue/00000000000000000000.log", b"half");
    cut.put(".catalogue.tmp/00000000000000000000.log", b"half");
    fs::remove_file(cut.path().join("orders-0/recovery-point")).unwrap();
    cut.take_over().unwrap().unwrap();
    assert_eq!(relative(&cut), relative(&whole));
}

#[test]
fn a_running_kafka_or_node_and_one_that_has_lost_its_mark_are_not_taken_over() {
    let kafka = Kafka::with(&[records(0, 0)]);
    let held = data_dir::hold(kafka.path()).unwrap();
    let before = files(kafka.path());
    assert!(kafka.take_over().unwrap_err().to_string().contains("in use by another process"));
    assert_eq!(files(kafka.path()), before);
    drop(held);
    kafka.take_over().unwrap().unwrap();
    // The mark of an import that was killed as it was done goes with the next start.
    kafka.put("flumen-import", b"");
    assert_eq!(kafka.take_over().unwrap(), None);
    kafka.put("meta.properties", META.as_bytes());
    kafka.is_refused("put that file back");
}

#[test]
fn an_import_of_two_directories_that_was_cut_short_between_them_is_finished() {
    let (first, second) = (Kafka::with(&[records(0, 0)]), Kafka::with(&[]));
    fs::remove_dir_all(second.path().join("orders-0")).unwrap();
    second.partition("orders-1", &[records(0, 0)]);
    let paths = [&first, &second].map(|kafka| kafka.path().to_path_buf());
    let whole = take_over(&paths, Some(NodeId(1)), 1_000).unwrap().unwrap();
    assert_eq!((whole.topics, whole.partitions), (1, 2));
    first.put("meta.properties", META.as_bytes());
    first.put("flumen-import", b"");
    assert_eq!(take_over(&paths, Some(NodeId(1)), 1_000).unwrap(), Some(whole));
    assert_eq!(take_over(&paths, Some(NodeId(1)), 1_000).unwrap(), None);
}

#[test]
fn a_directory_of_ours_that_has_lost_its_format_is_not_taken_for_kafka_s() {
    let kafka = Kafka::with(&[records(0, 0)]);
    kafka.take_over().unwrap();
    kafka.put("meta.properties", META.as_bytes());
    kafka.is_refused("put that file back");
}

#[test]
fn what_is_not_as_a_clean_stop_leaves_it_is_refused_and_left_as_it_was() {
    let kafka = Kafka::with(&[records(0, 0)]);
    fs::remove_file(kafka.path().join(".kafka_cleanshutdown")).unwrap();
    kafka.is_refused("did not stop in order");
    let mut torn = records(3, 0);
    torn.truncate(torn.len() - 1);
    Kafka::with(&[records(0, 0), torn]).is_refused("damaged at byte");
    let mut changed = records(0, 0);
    *changed.last_mut().unwrap() ^= 1;
    Kafka::with(&[changed]).is_refused("checksum");
    Kafka::with(&[records(3, 0), records(0, 0)]).is_refused("do not belong there");
}

#[test]
fn message_sets_of_before_kafka_0_11_are_refused_by_their_version() {
    for (magic, size, timestamp) in [(0, 14_i32, &[][..]), (1, 22, &[0; 8])] {
        // Offset, size, CRC, magic, attributes, from version 1 on a timestamp, no key, no value.
        let mut old = vec![0; 8];
        old.extend(size.to_be_bytes());
        old.extend([0, 0, 0, 0, magic, 0]);
        old.extend(timestamp);
        old.extend([0xff; 8]);
        Kafka::with(&[old]).is_refused(&format!("a batch of format v{magic}"));
    }
}

#[test]
fn an_undecided_transaction_is_refused_and_a_decided_one_is_not() {
    let open = records(0, Attributes::TRANSACTIONAL);
    Kafka::with(std::slice::from_ref(&open)).is_refused("an open transaction of producer 40");
    Kafka::with(&[open, marker(3, 1)]).take_over().unwrap().unwrap();
}

#[test]
fn partitions_that_other_nodes_hold_and_directories_that_are_not_kafka_s_are_refused() {
    let kafka = Kafka::with(&[records(0, 0)]);
    kafka.partition("orders-2", &[records(0, 0)]);
    kafka.is_refused("partition 1 of topic `orders` is in none");
    let kafka = Kafka::with(&[records(0, 0)]);
    fs::remove_file(kafka.path().join("orders-0/partition.metadata")).unwrap();
    kafka.is_refused("partition.metadata");
    let (kafka, empty) = (Kafka::with(&[records(0, 0)]), tempfile::tempdir().unwrap());
    for paths in [[kafka.path(), empty.path()], [empty.path(), kafka.path()]] {
        let paths = paths.map(Path::to_path_buf);
        let why = take_over(&paths, Some(NodeId(1)), 1_000).unwrap_err();
        assert!(matches!(why, ImportError::Mixed { .. }), "{why}");
    }
}

#[test]
fn compressed_records_of_groups_are_taken_and_unreadable_ones_refused() {
    let groups = |batch: Vec<u8>| {
        let kafka = Kafka::with(&[]);
        kafka.partition("__consumer_offsets-0", &[batch]);
        let id = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n";
        kafka.put("__consumer_offsets-0/partition.metadata", id);
        kafka
    };
    let plain = records(0, 0);
    let header = BatchHeader::parse(&plain).unwrap();
    let all = batch::expand(&plain.clone().into(), &header, 1 << 20).unwrap();
    let mut packed = batch::recode(&header, &all, Compression::Gzip.into());
    batch::stamp(&mut packed, Offset(0), LeaderEpoch(3));
    assert_eq!(groups(packed.to_vec()).take_over().unwrap().unwrap().partitions, 2);
    // It says that it is LZ4.
    let mut lying = plain;
    lying[22] = 3;
    let sum = crc32c(&[&lying[21..]]);
    lying[17..21].copy_from_slice(&sum.to_be_bytes());
    groups(lying).is_refused("records of groups that cannot be read");
}

#[test]
fn every_topic_that_is_not_kafka_s_own_is_taken_and_a_link_that_leads_nowhere_refused() {
    let kafka = Kafka::with(&[records(0, 0)]);
    let put = |name: &str, id: &str| {
        kafka.partition(name, &[records(0, 0)]);
        let id = format!("version: 0\ntopic_id: {id}\n");
        kafka.put(&format!("{name}/partition.metadata"), id.as_bytes());
    };
    put("__debezium-heartbeat.shop-0", "AAAAAAAAAAAAAAAAAAAABA");
    put("a.b-c.d-0", "AAAAAAAAAAAAAAAAAAAACA");
    put("__transaction_state-0", "AAAAAAAAAAAAAAAAAAAADA");
    // As Kafka would, it follows a link.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(kafka.path().join("a.b-c.d-0"), elsewhere.path().join("moved")).unwrap();
    let link = kafka.path().join("a.b-c.d-0");
    std::os::unix::fs::symlink(elsewhere.path().join("nowhere"), &link).unwrap();
    let refused = kafka.take_over().unwrap_err().to_string();
    assert!(refused.contains("cannot look at") && refused.contains("a.b-c.d-0"), "{refused}");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("moved"), &link).unwrap();
    let imported = kafka.take_over().unwrap().unwrap();
    assert_eq!((imported.topics, imported.left.len()), (3, 1), "{imported:?}");
}

/// The settings that `orders` is given.
fn settings_of(kafka: &Kafka) -> (Vec<(String, String)>, LogConfig, Imported) {
    let paths = [kafka.path().to_path_buf()];
    let dirs = find(&paths).unwrap().unwrap();
    let (mut topics, mut imported) = (Topics::new(), Imported::default());
    list(kafka.path(), dirs[0].1.id(), &mut topics, &mut Vec::new()).unwrap();
    let metadata = Metadata::find(dirs.iter().map(|(path, _)| *path)).unwrap();
    imported.settings = metadata.as_ref().map(|_| 0);
    let (name, partitions) = topics.first_key_value().unwrap();
    let settings = settings(name, partitions, metadata.as_ref(), &mut imported);
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    (settings.explicit().map(own).collect(), settings.log_config(&LogConfig::default()), imported)
}

#[test]
fn nothing_is_deleted_of_a_topic_before_somebody_says_what_it_keeps() {
    let (settings, config, imported) = settings_of(&Kafka::with(&[records(0, 0)]));
    // Set on the topic, and so told as such.
    assert_eq!(settings, [("retention.ms".into(), "-1".into())]);
    assert_eq!(imported.settings, None);
    assert_eq!(
        (config.retention_ms, config.retention_bytes, config.compaction),
        (None, None, None)
    );
}

/// A string of Kafka's flexible encoding; null where there is none.
fn text(text: Option<&str>) -> Vec<u8> {
    let Some(text) = text else { return vec![0] };
    [&[u8::try_from(text.len() + 1).unwrap()], text.as_bytes()].concat()
}

fn topic_record(name: &str, id: u8) -> Vec<u8> {
    [vec![1, 2, 0], text(Some(name)), metadata_id(id), vec![0]].concat()
}

fn removed_record(id: u8) -> Vec<u8> {
    [vec![1, 9, 1], metadata_id(id), vec![0]].concat()
}

fn config_record(kind: u8, topic: &str, name: &str, value: Option<&str>) -> Vec<u8> {
    [vec![1, 4, 0, kind], text(Some(topic)), text(Some(name)), text(value), vec![0]].concat()
}

/// Of `orders` it is 0.
fn metadata_id(id: u8) -> Vec<u8> {
    match id {
        0 => data_dir::from_kafka_id("PaSJ3ruOQ5CPW7rvFoP7GA").unwrap().into_bytes().to_vec(),
        id => vec![id; 16],
    }
}

fn metadata_batch(offset: u64, values: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(500);
    for value in values {
        builder.push(RecordRef { timestamp: 500, value: Some(value), ..RecordRef::default() });
    }
    stamped(builder, offset)
}

#[test]
fn what_was_set_on_a_topic_is_set_on_it_and_what_is_no_setting_here_is_named() {
    let kafka = Kafka::with(&[records(0, 0)]);
    let of_orders = |name, value| config_record(2, "orders", name, value);
    let before = [
        // An earlier topic of that name.
        topic_record("orders", 1),
        of_orders("compression.type", Some("zstd")),
        removed_record(1),
        topic_record("orders", 0),
        topic_record("others", 2),
        // Something else, of which nothing is known.
        vec![1, 99, 7, 1, 2, 3],
        of_orders("cleanup.policy", Some("compact")),
        of_orders("max.message.bytes", Some("5000")),
        of_orders("of.a.later.kafka", Some("true")),
        of_orders("flush.messages", Some("10000")),
        of_orders("min.insync.replicas", Some("2")),
        config_record(4, "orders", "min.insync.replicas", Some("1")),
        config_record(2, "others", "segment.bytes", Some("1048576")),
    ];
    let after = [of_orders("max.message.bytes", None), of_orders("retention.ms", Some("86400000"))];
    let log = "__cluster_metadata-0/00000000000000000000.log";
    let control = marker(13, 0);
    kafka.put(log, &[metadata_batch(0, &before), control, metadata_batch(14, &after)].concat());
    let wanted = [("cleanup.policy", "compact"), ("retention.ms", "86400000")];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (settings, config, imported) = settings_of(&kafka);
    assert_eq!(settings, wanted);
    assert!(config.compaction.is_some());
    assert_eq!(imported.settings, Some(2));
    let refused = [
        "flush.messages=10000: here",
        "min.insync.replicas=2: this",
        "of.a.later.kafka=true: there",
    ];
    for (said, wanted) in imported.refused.iter().zip(refused) {
        assert!(said.starts_with(&format!("orders: {wanted}")), "{said}");
    }
    assert_eq!(imported.refused.len(), refused.len());

    // The same by a snapshot, of which an older one and what the log says below it are no part.
    let snapshot = "__cluster_metadata-0/00000000000000000014-0000000003.checkpoint";
    kafka.put(snapshot, &metadata_batch(0, &before[3..]));
    kafka.put("__cluster_metadata-0/00000000000000000000-0000000000.checkpoint", b"unread");
    let below = [of_orders("compression.type", Some("gzip"))];
    kafka.put(log, &[metadata_batch(0, &below), metadata_batch(14, &after)].concat());
    assert_eq!(settings_of(&kafka).0, wanted);
    fs::remove_file(kafka.path().join(log)).unwrap();
    let later = "__cluster_metadata-0/00000000000000000015.log";
    kafka.put(later, &metadata_batch(15, &after));
    kafka.is_refused("its log begins at offset 15, and its snapshots end at 14");
    fs::remove_file(kafka.path().join(later)).unwrap();
    kafka.put(snapshot, &metadata_batch(0, &[vec![1, 4, 1, 2]]));
    kafka.is_refused("move the directory `__cluster_metadata-0` away");
    kafka.put(snapshot, &metadata_batch(0, &[vec![1, 2, 0, 200, 200]]));
    kafka.is_refused("the bytes end where");
}

#[test]
fn a_partition_that_only_the_metadata_knows_of_is_not_left_out() {
    let partition = |number: u8, id: u8| {
        [vec![1, 3, 2, 0, 0, 0, number], metadata_id(id), vec![2, 0, 0, 0, 1, 0]].concat()
    };
    let with = |values: &[Vec<u8>]| {
        let kafka = Kafka::with(&[records(0, 0)]);
        kafka.put("__cluster_metadata-0/00000000000000000000.log", &metadata_batch(0, values));
        kafka
    };
    let orders = topic_record("orders", 0);
    let whole = [topic_record("gone", 3), partition(4, 3), removed_record(3)];
    let whole = [&whole[..], &[orders.clone(), partition(0, 0)]].concat();
    with(&whole).take_over().unwrap().unwrap();
    // On a disk that was not named, the last partition of a topic; or all of one.
    with(&[orders, partition(1, 0), partition(0, 0)])
        .is_refused("partition 1 of topic `orders` is in none of the directories");
    let other = [whole, vec![topic_record("others", 2), partition(0, 2)]].concat();
    with(&other).is_refused("partition 0 of topic `others` is in none of the directories");
}
