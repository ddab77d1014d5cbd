"""kafka-python against a node: kafka_python.py HOST:PORT [retries]

With `retries` over connections that break before the answer.
"""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource

NODE = {"bootstrap_servers": sys.argv[1]}
PATIENCE_MS = 20_000
TOPIC = "kafka-python"
RECORDS = 200
# An hour ago, since what is older than a topic keeps is deleted.
BEGAN = int(time.time() - 3600) * 1000

admin = KafkaAdminClient(**NODE)


def produce(topic, values, partition=0, **settings):
    """Each value a second later than the one before it."""
    producer = KafkaProducer(**NODE, **settings)
    sent = [
        producer.send(topic, value, str(at).encode(), [("at", str(at).encode())], partition, BEGAN + at * 1000)
        for at, value in enumerate(values)
    ]
    producer.flush()
    offsets = [future.get(PATIENCE_MS / 1000).offset for future in sent]
    producer.close()
    return offsets


def consumer(*topics, **settings):
    return KafkaConsumer(
        *topics, **NODE, auto_offset_reset="earliest", enable_auto_commit=False,
        consumer_timeout_ms=PATIENCE_MS, **settings,
    )


def read_from(at, offset, count):
    reader = consumer()
    reader.assign([at])
    reader.seek(at, offset)
    records = [record for _, record in zip(range(count), reader)]
    reader.close()
    assert len(records) == count, f"{len(records)} of {count}"
    return records


def codecs():
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        topic = f"{TOPIC}-{codec or 'none'}"
        admin.create_topics({topic: {"num_partitions": 1}})
        values = [f"{codec} {at} ".encode() * 20 for at in range(RECORDS)]
        offsets = produce(topic, values, compression_type=codec, enable_idempotence=True)
        assert offsets == list(range(RECORDS)), codec
        records = read_from(TopicPartition(topic, 0), 0, RECORDS)
        assert [record.value for record in records] == values, codec
        assert [record.offset for record in records] == offsets
        assert records[7].key == b"7" and list(records[7].headers) == [("at", b"7")]
        assert records[7].timestamp == BEGAN + 7_000


def seek():
    at = TopicPartition(f"{TOPIC}-none", 0)
    assert read_from(at, RECORDS - 3, 1)[0].offset == RECORDS - 3
    reader = consumer()
    found = reader.offsets_for_times({at: BEGAN + 100_000 - 1})[at]
    assert (found.offset, found.timestamp) == (100, BEGAN + 100_000), found
    assert reader.beginning_offsets([at]) == {at: 0} and reader.end_offsets([at]) == {at: RECORDS}
    reader.close()


def take(member, seen):
    """What is delivered is committed at once, so that nothing may come twice."""
    for at, records in member.poll(100, max_records=1).items():
        for record in records:
            member.commit({at: OffsetAndMetadata(record.offset + 1, "", -1)})
            seen.append(record.value)


def groups():
    """Two members share four partitions; one leaves, and the other goes on where it was."""
    topic, group = f"{TOPIC}-groups", f"{TOPIC}-readers"
    admin.create_topics({topic: {"num_partitions": 4}})
    members = [consumer(topic, group_id=group, heartbeat_interval_ms=500) for _ in range(2)]
    seen, wanted = [], []
    for partition in range(4):
        values = [f"{partition} {at}".encode() for at in range(10)]
        produce(topic, values, partition)
        wanted += values
    while not all(len(member.assignment()) == 2 for member in members):
        for member in members:
            take(member, seen)
    described = admin.describe_groups([group])[group]
    assert len(described["members"]) == 2 and described["group_state"] == "Stable", described

    stayer, leaver = members
    leaver.close()
    for partition in range(4):
        wanted.append(f"{partition} more".encode())
        produce(topic, wanted[-1:], partition)
    while len(seen) < len(wanted):
        take(stayer, seen)
    stayer.close()
    assert sorted(seen) == sorted(wanted)

    produce(topic, [b"the last"], 3)
    late = consumer(topic, group_id=group)
    assert next(late).value == b"the last"
    late.commit()
    committed = [late.committed(TopicPartition(topic, partition)) for partition in range(4)]
    assert sum(committed) == len(wanted) + 1, committed
    late.close()


def administration():
    topic, group = f"{TOPIC}-admin", f"{TOPIC}-administered"
    at = TopicPartition(topic, 0)
    admin.create_topics({topic: {"num_partitions": 1, "configs": {"retention.ms": "60000000"}}})
    admin.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": "2000"})])
    configs = admin.describe_configs([ConfigResource("TOPIC", topic)])["topic"][topic]
    assert configs["retention.ms"]["value"] == "60000000", configs
    assert configs["max.message.bytes"]["value"] == "2000", configs
    admin.create_partitions({topic: 3})
    [described] = admin.describe_topics([topic])
    assert len(described["partitions"]) == 3, described

    produce(topic, [b"x"] * 10)
    admin.delete_records({at: 4})
    assert read_from(at, 4, 6)[0].offset == 4
    reader = consumer()
    assert reader.beginning_offsets([at]) == {at: 4}
    reader.close()

    admin.alter_group_offsets(group, {at: OffsetAndMetadata(7, "", -1)})
    assert admin.list_group_offsets([group])[group][at].offset == 7
    assert group in [found["group_id"] for found in admin.list_groups()]
    admin.delete_groups([group])
    assert len(admin.describe_cluster()["brokers"]) == 1
    admin.delete_topics([topic])
    assert topic not in admin.list_topics()


def retries():
    """What an idempotent producer sent in small requests is there once and in order."""
    topic, count = f"{TOPIC}-retries", 1200
    admin.create_topics({topic: {"num_partitions": 3}})
    producer = KafkaProducer(
        **NODE, enable_idempotence=True, max_in_flight_requests_per_connection=5, batch_size=256, linger_ms=1,
        retry_backoff_ms=10, reconnect_backoff_ms=10, reconnect_backoff_max_ms=100,
    )
    sent = [producer.send(topic, b"%100d" % at, partition=at % 3) for at in range(count)]
    producer.flush()
    for future in sent:
        future.get(PATIENCE_MS / 1000)
    producer.close()
    for partition in range(3):
        wanted, at, reader = list(range(partition, count, 3)), TopicPartition(topic, partition), consumer()
        reader.assign([at])
        reader.seek(at, 0)
        end = reader.end_offsets([at])[at]
        got = [int(record.value) for _, record in zip(range(end), reader)]
        reader.close()
        assert got == wanted, f"{at}: {len(wanted)} were sent, and there are {len(got)}"


for check in [retries] if sys.argv[2:] == ["retries"] else [codecs, seek, groups, administration]:
    check()
    print(f"kafka-python: {check.__name__}", flush=True)
