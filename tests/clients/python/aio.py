"""aiokafka against a node: aio.py HOST:PORT [retries]

With `retries` over connections that break before the answer.
"""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

NODE = {"bootstrap_servers": sys.argv[1]}
PATIENCE = 20
TOPIC = "aiokafka"
RECORDS = 200
# An hour ago, since what is older than a topic keeps is deleted.
BEGAN = int(time.time() - 3600) * 1000


async def produce(topic, values, partition=0, **settings):
    """Each value a second later than the one before it."""
    async with AIOKafkaProducer(**NODE, **settings) as producer:
        sent = [
            await producer.send(
                topic, value, str(at).encode(), partition, BEGAN + at * 1000, [("at", str(at).encode())]
            )
            for at, value in enumerate(values)
        ]
        return [(await future).offset for future in sent]


def consumer(*topics, **settings):
    return AIOKafkaConsumer(
        *topics, **NODE, auto_offset_reset="earliest", enable_auto_commit=False, **settings
    )


async def read(reader, count):
    return [await asyncio.wait_for(reader.getone(), PATIENCE) for _ in range(count)]


async def read_from(at, offset, count):
    async with consumer() as reader:
        reader.assign([at])
        reader.seek(at, offset)
        return await read(reader, count)


async def codecs(admin):
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        topic = f"{TOPIC}-{codec or 'none'}"
        await admin.create_topics([NewTopic(topic, 1, 1)])
        values = [f"{codec} {at} ".encode() * 20 for at in range(RECORDS)]
        offsets = await produce(topic, values, compression_type=codec, enable_idempotence=True)
        assert offsets == list(range(RECORDS)), codec
        records = await read_from(TopicPartition(topic, 0), 0, RECORDS)
        assert [record.value for record in records] == values, codec
        assert [record.offset for record in records] == offsets
        assert records[7].key == b"7" and list(records[7].headers) == [("at", b"7")]
        assert records[7].timestamp == BEGAN + 7_000


async def seek(_):
    at = TopicPartition(f"{TOPIC}-none", 0)
    assert (await read_from(at, RECORDS - 3, 1))[0].offset == RECORDS - 3
    async with consumer() as reader:
        found = (await reader.offsets_for_times({at: BEGAN + 100_000 - 1}))[at]
        assert (found.offset, found.timestamp) == (100, BEGAN + 100_000), found
        assert await reader.beginning_offsets([at]) == {at: 0}
        assert await reader.end_offsets([at]) == {at: RECORDS}


async def member(seen, topic, group, ready):
    """What is delivered is committed at once, so that nothing may come twice."""
    async with consumer(topic, group_id=group, heartbeat_interval_ms=500) as reader:
        while True:
            if len(reader.assignment()) == 2:
                ready.set()
            batches = await reader.getmany(timeout_ms=100, max_records=1)
            for at, [record] in batches.items():
                await reader.commit({at: record.offset + 1})
                seen.append(record.value)


async def groups(admin):
    """Two members share four partitions; one leaves, and the other goes on where it was."""
    topic, group = f"{TOPIC}-groups", f"{TOPIC}-readers"
    await admin.create_topics([NewTopic(topic, 4, 1)])
    seen, wanted = [], []
    ready = [asyncio.Event(), asyncio.Event()]
    stayer, leaver = [asyncio.create_task(member(seen, topic, group, event)) for event in ready]
    for partition in range(4):
        values = [f"{partition} {at}".encode() for at in range(10)]
        await produce(topic, values, partition)
        wanted += values
    for event in ready:
        await asyncio.wait_for(event.wait(), PATIENCE)
    [described] = await admin.describe_consumer_groups([group])
    [[error, name, state, _, _, members, *_]] = described.groups
    assert (error, name, state, len(members)) == (0, group, "Stable", 2), described

    async with asyncio.timeout(PATIENCE):
        while len(seen) < len(wanted):
            await asyncio.sleep(0.05)
        leaver.cancel()
        await asyncio.wait([leaver])
        for partition in range(4):
            wanted.append(f"{partition} more".encode())
            await produce(topic, wanted[-1:], partition)
        while len(seen) < len(wanted):
            await asyncio.sleep(0.05)
    stayer.cancel()
    await asyncio.wait([stayer])
    assert sorted(seen) == sorted(wanted)

    await produce(topic, [b"the last"], 3)
    async with consumer(topic, group_id=group) as late:
        assert (await read(late, 1))[0].value == b"the last"
        await late.commit()
    committed = await admin.list_consumer_group_offsets(group)
    assert sum(position.offset for position in committed.values()) == len(wanted) + 1, committed


async def administration(admin):
    topic, group = f"{TOPIC}-admin", f"{TOPIC}-readers"
    at = TopicPartition(topic, 0)
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "60000000"})])
    altered = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "2000"})
    [answer] = await admin.alter_configs([altered])
    assert answer.resources[0][0] == 0, answer
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    configs = {name: value for name, value, *_ in answer.resources[0][4]}
    assert configs["max.message.bytes"] == "2000", configs
    # AlterConfigs replaces all settings of a topic by those that it names.
    assert configs["retention.ms"] == "604800000", configs
    await admin.create_partitions({topic: NewPartitions(3)})
    [described] = await admin.describe_topics([topic])
    assert len(described["partitions"]) == 3, described

    await produce(topic, [b"x"] * 10)
    assert await admin.delete_records({at: RecordsToDelete(4)}) == {at: 4}
    assert (await read_from(at, 4, 6))[0].offset == 4
    assert group in [name for name, _ in await admin.list_consumer_groups()]
    assert len((await admin.describe_cluster())["brokers"]) == 1
    await admin.delete_topics([topic])
    assert topic not in await admin.list_topics()


async def retries(admin):
    """What an idempotent producer sent in small requests is there once and in order."""
    topic, count = f"{TOPIC}-retries", 1200
    await admin.create_topics([NewTopic(topic, 3, 1)])
    settings = {"enable_idempotence": True, "max_batch_size": 256, "retry_backoff_ms": 10}
    async with AIOKafkaProducer(**NODE, **settings) as producer:
        sent = [await producer.send(topic, b"%100d" % at, partition=at % 3) for at in range(count)]
        await asyncio.gather(*sent)
    for partition in range(3):
        wanted, at = list(range(partition, count, 3)), TopicPartition(topic, partition)
        async with consumer() as reader:
            reader.assign([at])
            reader.seek(at, 0)
            end = (await reader.end_offsets([at]))[at]
            got = [int(record.value) for record in await read(reader, end)]
        assert got == wanted, f"{at}: {len(wanted)} were sent, and there are {len(got)}"


async def main():
    admin = AIOKafkaAdminClient(**NODE)
    await admin.start()
    for check in [retries] if sys.argv[2:] == ["retries"] else [codecs, seek, groups, administration]:
        await check(admin)
        print(f"aiokafka: {check.__name__}", flush=True)
    await admin.close()


asyncio.run(main())
