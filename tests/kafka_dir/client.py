"""A user of Kafka (librdkafka) whose node is taken over: client.py HOST:PORT

At Kafka it makes topics, writes with every codec, with keys, tombstones, idempotently and in transactions,
reads half of a topic as a group, and commits. It says `ready`, and waits for a line. Then the same address is
Flumen's: it reads all again, the group resumes where it was, and the producers of before go on.
"""

import os
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

ADDRESS = sys.argv[1]
MODE = sys.argv[2] if len(sys.argv) > 2 else "all"
NODE = {"bootstrap.servers": ADDRESS, "reconnect.backoff.max.ms": 500}
PATIENCE = 60
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS = 300

admin = AdminClient(NODE)


def done(futures):
    return {key: future.result(PATIENCE) for key, future in futures.items()}


def produce(producer, topic, range_, partition=0, key=None, value=lambda at: b"value %d " % at * 20):
    failed = []
    for at in range_:
        producer.produce(
            topic, value(at), key=key and key(at), partition=partition,
            headers={"at": str(at)}, on_delivery=lambda error, _: error and failed.append(error),
        )
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0 and not failed, failed


def consumer(group, **settings):
    return Consumer(NODE | {
        "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True, **settings,
    })


def read(topic, partition=0, **settings):
    """Everything, up to the end."""
    reader, records = consumer("unused", **{"enable.partition.eof": True, **settings}), []
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        record = reader.poll(1)
        if record is not None and record.error() is None:
            records.append(record)
        elif record is not None:
            reader.close()
            return records
    raise AssertionError(f"{topic}: no end after {len(records)} records")


def resume(count):
    """The next records of the group, committed."""
    member, values = consumer("readers"), []
    member.subscribe(["plain"])
    deadline = time.monotonic() + PATIENCE
    while len(values) < count and time.monotonic() < deadline:
        record = member.poll(1)
        if record is not None:
            assert record.error() is None, record.error()
            values.append(record.value())
            member.commit(record, asynchronous=False)
    member.close()
    return values


def wait_for_flumen():
    print("ready", flush=True)
    sys.stdin.readline()


def open_transaction():
    producer = Producer(NODE | {"transactional.id": "open", "transaction.timeout.ms": 600_000})
    done(admin.create_topics([NewTopic("undecided", 1, 1)]))
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce("undecided", b"nobody knows")
    producer.flush(PATIENCE)
    print("ready", flush=True)
    # No farewell: nobody decides.
    os._exit(0)


if MODE == "open":
    open_transaction()

done(admin.create_topics(
    [NewTopic(codec, 2, 1) for codec in CODECS]
    + [NewTopic("plain", 1, 1), NewTopic("transactions", 1, 1)]
    + [NewTopic("latest", 1, 1, config={"cleanup.policy": "compact", "segment.bytes": "1048576"})]
))
for codec in CODECS:
    for partition in range(2):
        produce(Producer(NODE | {"compression.type": codec}), codec, range(RECORDS), partition, key=lambda at: str(at))
produce(Producer(NODE), "latest", range(40), key=lambda at: str(at % 10), value=lambda at: None if at >= 35 else b"%d" % at)

idempotent = Producer(NODE | {"enable.idempotence": True})
produce(idempotent, "plain", range(RECORDS))
transactional = Producer(NODE | {"transactional.id": "decided"})
transactional.init_transactions(PATIENCE)
group = consumer("readers").consumer_group_metadata()
half = resume(RECORDS // 2)
assert len(half) == RECORDS // 2
decisions = [(b"kept", 1, transactional.commit_transaction), (b"void", 200, transactional.abort_transaction)]
for word, offset, decide in decisions:
    transactional.begin_transaction()
    transactional.produce("transactions", word)
    # Of the group's two commits with a transaction the one that held is of another topic.
    topic = "plain" if word == b"void" else "transactions"
    transactional.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], group, PATIENCE)
    transactional.flush(PATIENCE)
    decide(PATIENCE)
ids = {topic: str(description.topic_id) for topic, description in done(admin.describe_topics(
    TopicCollection([*CODECS, "plain", "latest"]))).items()}

cluster = admin.list_topics(timeout=PATIENCE).cluster_id
wait_for_flumen()
assert admin.list_topics(timeout=PATIENCE).cluster_id == cluster

now = {topic: str(description.topic_id) for topic, description in done(admin.describe_topics(
    TopicCollection([*CODECS, "plain", "latest"]))).items()}
assert now == ids, (now, ids)
for codec in CODECS:
    for partition in range(2):
        records = read(codec, partition)
        assert [record.value() for record in records] == [b"value %d " % at * 20 for at in range(RECORDS)], codec
        assert records[7].key() == b"7" and records[7].headers() == [("at", b"7")]
        assert [record.offset() for record in records] == list(range(RECORDS))
latest = {record.key(): record.value() for record in read("latest")}
assert latest == {str(key).encode(): None if key >= 5 else b"%d" % (30 + key) for key in range(10)}, latest
assert [record.value() for record in read("transactions")] == [b"kept"]
both = read("transactions", **{"isolation.level": "read_uncommitted"})
assert [record.value() for record in both] == [b"kept", b"void"]

held = consumer("readers").committed([TopicPartition("transactions", 0)], timeout=PATIENCE)
assert held[0].offset == 1, held
rest = resume(RECORDS - len(half))
assert half + rest == [b"value %d " % at * 20 for at in range(RECORDS)], "the group resumes where it was"
produce(idempotent, "plain", range(RECORDS, RECORDS + 50))
values = [record.value() for record in read("plain")]
assert values == [b"value %d " % at * 20 for at in range(RECORDS + 50)], "the idempotent producer goes on"
assert resume(50) == values[RECORDS:]
configs = done(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, "latest")]))
configs = next(iter(configs.values()))
assert configs["cleanup.policy"].value == "compact" and not configs["cleanup.policy"].is_default
assert configs["segment.bytes"].value == "1048576"
assert configs["retention.ms"].value == "-1"
fresh = Producer(NODE | {"enable.idempotence": True})
produce(fresh, "gzip", range(RECORDS, RECORDS + 10))
print("all is there", flush=True)
