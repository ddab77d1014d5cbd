"""confluent-kafka (librdkafka) against a node: confluent.py HOST:PORT"""

import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec

NODE = {"bootstrap.servers": sys.argv[1]}
PATIENCE = 20
TOPIC = "confluent"
RECORDS = 300
# An hour ago, since what is older than a topic keeps is deleted.
BEGAN = int(time.time() - 3600) * 1000

admin = AdminClient(NODE)


def done(futures):
    """The answers to a call of the admin client, by what was asked for."""
    return {key: future.result(PATIENCE) for key, future in futures.items()}


def produce(topic, values, partition=0, **settings):
    """Each value a second later than the one before it."""
    failed = []
    producer = Producer(NODE | settings)
    for at, value in enumerate(values):
        producer.produce(
            topic, value, key=str(at), partition=partition, timestamp=BEGAN + at * 1000,
            headers={"at": str(at)}, on_delivery=lambda error, _: error and failed.append(error),
        )
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0 and not failed, failed


def consumer(group, **settings):
    return Consumer(NODE | {
        "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "check.crcs": True, **settings,
    })


def read(reader, count):
    records = []
    while len(records) < count:
        batch = reader.consume(count - len(records), timeout=PATIENCE)
        assert batch, f"{len(records)} of {count} records, and no more"
        for record in batch:
            assert record.error() is None, record.error()
        records += batch
    return records


def read_from(topic, offset, count, partition=0):
    reader = consumer("unused")
    reader.assign([TopicPartition(topic, partition, offset)])
    records = read(reader, count)
    reader.close()
    return records


def codecs():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        topic = f"{TOPIC}-{codec}"
        done(admin.create_topics([NewTopic(topic, 1, 1)]))
        values = [f"{codec} {at} ".encode() * 20 for at in range(RECORDS)]
        produce(topic, values, **{"compression.type": codec, "enable.idempotence": True})
        records = read_from(topic, OFFSET_BEGINNING, RECORDS)
        assert [record.value() for record in records] == values, codec
        assert [record.offset() for record in records] == list(range(RECORDS))
        assert records[7].key() == b"7" and records[7].headers() == [("at", b"7")]
        assert records[7].timestamp()[1] == BEGAN + 7_000


def seek():
    topic = f"{TOPIC}-none"
    assert read_from(topic, RECORDS - 3, 1)[0].offset() == RECORDS - 3
    reader = consumer("unused")
    at = TopicPartition(topic, 0, BEGAN + 100_000 - 1)
    [found] = reader.offsets_for_times([at], timeout=PATIENCE)
    assert found.offset == 100, found
    assert reader.get_watermark_offsets(at, timeout=PATIENCE) == (0, RECORDS)
    reader.close()
    for spec, wanted in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), RECORDS), (OffsetSpec.max_timestamp(), RECORDS - 1)]:
        [found] = done(admin.list_offsets({TopicPartition(topic, 0): spec})).values()
        assert found.offset == wanted, (spec, found)


def take(member, seen):
    """What is delivered is committed at once, so that nothing may come twice."""
    record = member.poll(0.1)
    if record:
        assert record.error() is None, record.error()
        member.commit(record, asynchronous=False)
        seen.append(record.value())


def groups():
    """Two members share four partitions; one leaves, and the other goes on where it was."""
    topic, group = f"{TOPIC}-groups", f"{TOPIC}-readers"
    done(admin.create_topics([NewTopic(topic, 4, 1)]))
    members = [consumer(group, **{"partition.assignment.strategy": "cooperative-sticky"}) for _ in range(2)]
    for member in members:
        member.subscribe([topic])
    seen, wanted = [], []
    for partition in range(4):
        values = [f"{partition} {at}".encode() for at in range(25)]
        produce(topic, values, partition)
        wanted += values
    while not all(len(member.assignment()) == 2 for member in members):
        for member in members:
            take(member, seen)
    [described] = done(admin.describe_consumer_groups([group])).values()
    assert len(described.members) == 2 and described.state.name == "STABLE", described

    stayer, leaver = members
    leaver.close()
    for partition in range(4):
        produce(topic, [f"{partition} more".encode()], partition)
        wanted.append(f"{partition} more".encode())
    while len(seen) < len(wanted):
        take(stayer, seen)
    stayer.close()
    assert sorted(seen) == sorted(wanted)

    produce(topic, ["the last"], 3)
    late = consumer(group)
    late.subscribe([topic])
    assert [record.value() for record in read(late, 1)] == [b"the last"]
    late.commit(asynchronous=False)
    at = [TopicPartition(topic, partition) for partition in range(4)]
    assert sum(position.offset for position in late.committed(at, timeout=PATIENCE)) == len(wanted) + 1
    late.close()


def administration():
    topic, group = f"{TOPIC}-admin", f"{TOPIC}-administered"
    done(admin.create_topics([NewTopic(topic, 1, 1, config={"retention.ms": "60000"})]))
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    [config] = done(admin.describe_configs([resource])).values()
    assert config["retention.ms"].value == "60000", config["retention.ms"]
    resource.add_incremental_config(ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET))
    done(admin.incremental_alter_configs([resource]))
    [config] = done(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)])).values()
    assert config["max.message.bytes"].value == "2000" and not config["max.message.bytes"].is_default
    done(admin.create_partitions([NewPartitions(topic, 3)]))
    assert len(admin.list_topics(topic, PATIENCE).topics[topic].partitions) == 3

    produce(topic, [b"x"] * 10)
    [deleted] = done(admin.delete_records([TopicPartition(topic, 0, 4)])).values()
    assert deleted.low_watermark == 4, deleted
    assert read_from(topic, OFFSET_BEGINNING, 6)[0].offset() == 4

    position = TopicPartition(topic, 0, 7)
    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [position])]))
    [offsets] = done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).values()
    assert offsets.topic_partitions[0].offset == 7, offsets.topic_partitions
    listed = admin.list_consumer_groups().result(PATIENCE)
    assert group in [found.group_id for found in listed.valid], listed
    done(admin.delete_consumer_groups([group]))
    assert len(admin.describe_cluster().result(PATIENCE).nodes) == 1
    done(admin.delete_topics([topic]))
    assert topic not in admin.list_topics(timeout=PATIENCE).topics


for check in [codecs, seek, groups, administration]:
    check()
    print(f"confluent-kafka: {check.__name__}", flush=True)
