//! Every setting that a topic may have, in the order of names.

use super::{Setting, kind::Kind};

/// Bytes that the records of a batch may have when they are decompressed here.
const DECOMPRESSED_BYTES: &str = "67108864";

const fn long(name: &'static str, default: &'static str, min: i64, doc: &'static str) -> Setting {
    Setting { name, default, doc, kind: Kind::Long { min } }
}

const fn int(
    name: &'static str,
    default: &'static str,
    (min, max): (i32, i32),
    doc: &'static str,
) -> Setting {
    Setting { name, default, doc, kind: Kind::Int { min, max } }
}

const fn flag(name: &'static str, doc: &'static str) -> Setting {
    Setting { name, default: "false", doc, kind: Kind::Flag }
}

const fn word(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    doc: &'static str,
) -> Setting {
    Setting { name, default, doc, kind: Kind::Word(words) }
}

const fn replicas(name: &'static str, doc: &'static str) -> Setting {
    Setting { name, default: "", doc, kind: Kind::Replicas }
}

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        doc: "what happens to old segments: `delete`, `compact`, both, or, where it is empty, nothing",
        kind: Kind::Words(&["delete", "compact"]),
    },
    Setting {
        name: "compression.gzip.level",
        default: "-1",
        doc: "how hard gzip compresses where `compression.type` demands it, from 1 to 9; -1: as it likes",
        kind: Kind::IntOr { min: 1, max: 9, or: -1 },
    },
    int(
        "compression.lz4.level",
        "9",
        (1, 17),
        "no meaning here: LZ4 has one level, the fast one that is Kafka's 9",
    ),
    word(
        "compression.type",
        "producer",
        &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
        "how records are compressed: `producer` leaves that to who sends them, and copies nothing; what \
         comes otherwise than one of the others demands is compressed anew",
    ),
    int(
        "compression.zstd.level",
        "3",
        (-131_072, 22),
        "how hard Zstandard compresses where `compression.type` demands it",
    ),
    long(
        "delete.retention.ms",
        "86400000",
        0,
        "how long a tombstone stays readable in a compacted topic, in milliseconds",
    ),
    flag(
        "errors.deadletterqueue.group.enable",
        "no meaning here: there are no share groups, which would write to it what cannot be processed",
    ),
    long(
        "file.delete.delay.ms",
        "60000",
        0,
        "no meaning here: the file of a removed segment goes at once, and who reads it reads on",
    ),
    long(
        "flush.messages",
        "1",
        1,
        "1: a batch is synced before it is acknowledged; 9223372036854775807: never by count (lazy)",
    ),
    long(
        "flush.ms",
        "1000",
        0,
        "how long a lazy topic may leave a batch unsynced, in milliseconds",
    ),
    replicas(
        "follower.replication.throttled.replicas",
        "no meaning here: there is one node, so nothing is replicated",
    ),
    int(
        "index.interval.bytes",
        "4096",
        (0, i32::MAX),
        "bytes of log between two entries of its index",
    ),
    replicas(
        "leader.replication.throttled.replicas",
        "no meaning here: there is one node, so nothing is replicated",
    ),
    long(
        "local.retention.bytes",
        "-2",
        -2,
        "no meaning here: there is no remote storage, so `retention.bytes` is all there is",
    ),
    long(
        "local.retention.ms",
        "-2",
        -2,
        "no meaning here: there is no remote storage, so `retention.ms` is all there is",
    ),
    long(
        "max.compaction.lag.ms",
        "9223372036854775807",
        1,
        "how long a record of a compacted topic may wait to be compacted, in milliseconds",
    ),
    int(
        "max.decompressed.message.bytes",
        DECOMPRESSED_BYTES,
        (1, i32::MAX - 8),
        "most bytes of the records of one batch when they are decompressed, where they must be; more than \
         1 GiB is taken for 1 GiB",
    ),
    int(
        "max.message.bytes",
        "1048588",
        (0, i32::MAX),
        "most bytes of one record batch, as it is stored; more than 64 MiB is taken for 64 MiB",
    ),
    long(
        "message.timestamp.after.max.ms",
        "3600000",
        0,
        "how far ahead of the clock a producer's timestamp may be, in milliseconds",
    ),
    long(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        0,
        "how far behind the clock a producer's timestamp may be, in milliseconds",
    ),
    word(
        "message.timestamp.type",
        "CreateTime",
        &["CreateTime", "LogAppendTime"],
        "whose timestamps records have: their producer's, or the log's (`LogAppendTime`)",
    ),
    Setting {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        doc: "which part of a compacted partition must be new before it is compacted, from 0 to 1",
        kind: Kind::Ratio,
    },
    long(
        "min.compaction.lag.ms",
        "0",
        0,
        "how long every record of a compacted topic stays readable, in milliseconds",
    ),
    int(
        "min.insync.replicas",
        "1",
        (1, i32::MAX),
        "replicas that must have a batch before acks=all answers",
    ),
    flag("preallocate", "no meaning here: what is written fast and synced is followed by zeros"),
    long("remote.copy.lag.bytes", "-1", -1, "no meaning here: there is no remote storage"),
    long("remote.copy.lag.ms", "0", -1, "no meaning here: there is no remote storage"),
    flag("remote.log.copy.disable", "no meaning here: there is no remote storage"),
    flag("remote.log.delete.on.disable", "no meaning here: there is no remote storage"),
    Setting {
        name: "remote.storage.enable",
        default: "false",
        doc: "no meaning here: there is no remote storage, so it can only be `false`",
        kind: Kind::Off,
    },
    long("retention.bytes", "-1", i64::MIN, "bytes a partition keeps; below 0: no limit"),
    long(
        "retention.ms",
        "604800000",
        -1,
        "milliseconds a partition keeps its records; -1: no limit",
    ),
    int("segment.bytes", "1073741824", (4_096, i32::MAX), "bytes of one segment file"),
    int(
        "segment.index.bytes",
        "10485760",
        (4, i32::MAX),
        "no meaning here: an index takes the bytes that its entries do",
    ),
    long(
        "segment.jitter.ms",
        "0",
        0,
        "no meaning here: segments of many partitions that are closed at once share their syncs",
    ),
    long(
        "segment.ms",
        "604800000",
        1,
        "age at which the active segment is closed, in milliseconds",
    ),
    flag(
        "unclean.leader.election.enable",
        "no meaning here: there is one node, so no other replica can lead",
    ),
];
