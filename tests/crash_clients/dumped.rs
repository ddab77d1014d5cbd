//! Kafka's own `DumpLogSegments` on what a node leaves that was killed again and again: segments that were
//! recovered, compacted and compressed anew, what producers and groups did, and all of it as clients saw it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    history::{Event, Record, What},
    tool::{dump, payloads},
};

const FILES: [&str; 4] = ["log", "index", "timeindex", "snapshot"];

/// Looks at the directory of a node that has stopped.
pub(crate) fn check(tools: &str, data: &Path, events: &[Event]) {
    for partition in ["orders-0", "latest-0"] {
        let text =
            dump(tools, &data.join(partition), &FILES, &["--deep-iteration", "--print-data-log"]);
        let held = held(partition, events);
        let found = payloads(&text);
        // While the log was read, and after that, a compaction may have gone on.
        let is_same = partition == "latest-0" || found.len() == held.len();
        assert!(is_same, "{partition}: Kafka's tool sees {}, clients {}", found.len(), held.len());
        assert_eq!(found.last_key_value().map(|(last, _)| last), held.keys().next_back());
        for (offset, value) in &found {
            let record =
                held.get(offset).unwrap_or_else(|| panic!("{partition}: {offset}: {value}"));
            let words = [&record.producer, &record.number.to_string()];
            assert!(
                value.split(' ').take(2).eq(words),
                "{partition} {offset}: {value}, not {record}"
            );
        }
        // Of a producer that was used at another time than its last batch says there is an entry more.
        let entries = text.lines().filter(|line| line.starts_with("producerId: "));
        let is_bare = |line: &str| !line.contains("lastSequence");
        assert!(entries.clone().any(|line| !is_bare(line)), "{partition} has no producers");
        assert!(
            entries.clone().any(is_bare),
            "{partition}: each was used when its last batch says"
        );
    }
    let text = dump(tools, &offsets(data), &FILES, &["--offsets-decoder", "--deep-iteration"]);
    for topic in ["orders", "clicks", "latest"] {
        let key = format!("\"group\":\"readers\",\"topic\":\"{topic}\"");
        assert!(text.contains(&key), "no {key} in {text:.2000}");
    }
}

fn held<'a>(partition: &str, events: &'a [Event]) -> BTreeMap<u64, &'a Record> {
    let here = events.iter().filter(|event| event.place.to_string() == partition);
    let held = here.filter_map(|event| match &event.what {
        What::Held { record, offset } => Some((u64::try_from(*offset).ok()?, record)),
        _ => None,
    });
    held.collect()
}

/// The partition of the groups' offsets that holds most.
fn offsets(data: &Path) -> PathBuf {
    let dirs = fs::read_dir(data).expect("it is there").flatten().map(|entry| entry.path());
    let bytes = |dir: &PathBuf| -> u64 {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    };
    let offsets = |dir: &PathBuf| {
        dir.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("__consumer"))
    };
    dirs.filter(offsets).max_by_key(bytes).expect("there are groups")
}
