"""A client (librdkafka) that goes on through everything that happens to its node, and writes down what it saw.

client.py HOST:PORT topics  TOPIC:PARTITIONS …    makes topics of small segments, `TOPIC:PARTITIONS:compact` a compacted one
client.py HOST:PORT produce NAME CODEC TOPIC:PARTITIONS …
client.py HOST:PORT consume NAME GROUP ASSIGNOR TOPIC …
client.py HOST:PORT read    GROUP TOPIC:PARTITIONS …    all that is held, and what the group committed

Producers and members end when their standard input does, once all that they sent is answered. Each line of
output is one event of the history, as tests/crash_clients/history.rs has it; times are of the clock that all
processes of a machine share.
"""

import json
import random
import sys
import threading
import time
import zlib

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ADDRESS, ROLE, *ARGS = sys.argv[1:]
NODE = {
    "bootstrap.servers": ADDRESS, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 20, "retry.backoff.max.ms": 200, "log_level": 0,
}
# What a node that is killed again and again may need to answer; then something is lost for good.
PATIENCE = 120
OUTSTANDING_MAX = 60
# Keys of each producer in a compacted topic.
KEYS = 5
told_to_stop = threading.Event()


def now():
    return time.monotonic_ns()


def note(what, **fields):
    sys.stdout.write(json.dumps({"at": now(), "what": what, **fields}) + "\n")


def partitions(words):
    named = [word.split(":") for word in words]
    return [(topic, partition) for topic, count, *_ in named for partition in range(int(count))]


def compacted(words):
    return {word.split(":")[0] for word in words if word.endswith(":compact")}


def until_standard_input_ends():
    sys.stdin.read()
    told_to_stop.set()


def topics():
    settings = {"segment.bytes": "65536", "index.interval.bytes": "1024", "retention.ms": "-1"}
    shrinks = settings | {"cleanup.policy": "compact", "segment.bytes": "4096", "min.cleanable.dirty.ratio": "0.01"}
    named, small = [word.split(":") for word in ARGS], compacted(ARGS)
    admin = AdminClient(NODE)
    wanted = [
        NewTopic(topic, int(count), 1, config=shrinks if topic in small else settings) for topic, count, *_ in named
    ]
    for future in admin.create_topics(wanted).values():
        future.result(PATIENCE)


def sum_of(value):
    return zlib.crc32(value)


def produce():
    name, codec, *words = ARGS
    targets, keyed, outstanding = partitions(words), compacted(words), 0

    producer = Producer(NODE | {
        "enable.idempotence": True, "linger.ms": 2, "compression.type": codec, "batch.num.messages": 20,
        "message.timeout.ms": PATIENCE * 1000,
    })

    def answered(fields):
        def on_delivery(error, message):
            nonlocal outstanding
            outstanding -= 1
            if error is not None:
                note("failed", **fields, why=str(error))
            else:
                note("acknowledged", **fields, offset=message.offset())
        return on_delivery

    number = 0
    while not told_to_stop.is_set():
        for _ in range(random.randrange(8)):
            topic, partition = random.choice(targets)
            # Compaction gives way to writes: where they never cease, it gets nowhere in a short life.
            if topic in keyed and random.randrange(8):
                continue
            value = f"{name} {number} ".encode() + bytes([97 + number % 26]) * random.randrange(300)
            key = f"{name}-{number % KEYS}" if topic in keyed else None
            fields = {
                "topic": topic, "partition": partition, "producer": name, "number": number, "key": key,
                "sum": sum_of(value),
            }
            number, outstanding = number + 1, outstanding + 1
            note("sent", **fields)
            producer.produce(topic, value, key, partition=partition, on_delivery=answered(fields))
        # Real time: a steady stream is what kills must meet.
        producer.poll(0.02)
        while outstanding > OUTSTANDING_MAX:
            producer.poll(0.1)
        sys.stdout.flush()
    left = producer.flush(PATIENCE)
    assert left == 0, f"{left} records are not answered"


def consume():
    name, group, assignor, *names = ARGS
    positions, uncommitted = {}, False
    consumer = Consumer(NODE | {
        "group.id": group, "client.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "partition.assignment.strategy": assignor, "check.crcs": True, "session.timeout.ms": 10_000,
    })

    def commit(keys):
        wanted = [(topic, partition, positions[topic, partition]) for topic, partition in keys if (topic, partition) in positions]
        if not wanted:
            return True
        began = now()
        try:
            answers = consumer.commit(offsets=[TopicPartition(*one) for one in wanted], asynchronous=False)
            done = {(one.topic, one.partition) for one in answers if one.error is None}
        except KafkaException:
            # The node is away, or another generation has the partition: what came of it is not known.
            done = set()
        for topic, partition, next in wanted:
            known = (topic, partition) in done
            note("committed", member=name, topic=topic, partition=partition, next=next, began=began, known=known)
        return len(done) == len(wanted)

    def on_assign(_, assigned):
        for one in assigned:
            positions.pop((one.topic, one.partition), None)
            note("assigned", member=name, topic=one.topic, partition=one.partition)

    def on_revoke(_, revoked):
        commit([(one.topic, one.partition) for one in revoked])
        for one in revoked:
            positions.pop((one.topic, one.partition), None)

    def on_lost(_, lost):
        for one in lost:
            positions.pop((one.topic, one.partition), None)

    consumer.subscribe(names, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
    while not told_to_stop.is_set():
        # One at a time: nothing is polled before a rebalance and noted after it.
        for at in range(200):
            record = consumer.poll(0 if at else 0.1)
            if record is None:
                break
            if record.error() is None:
                seen("polled", record, member=name)
                positions[record.topic(), record.partition()] = record.offset() + 1
                uncommitted = True
            elif record.error().fatal() or record.error().code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaException(record.error())
        if uncommitted:
            # What failed is tried again: no later record may come that would bring it along.
            uncommitted = not commit(list(positions))
        sys.stdout.flush()
    consumer.close()


def seen(what, record, **fields):
    value = record.value()
    producer, number = value.split(b" ")[:2]
    key = record.key() and record.key().decode(errors="replace")
    note(
        what, topic=record.topic(), partition=record.partition(), offset=record.offset(),
        producer=producer.decode(errors="replace"), number=int(number), sum=sum_of(value), key=key, **fields,
    )


def read():
    group, *words = ARGS
    all_of_them = partitions(words)
    reader = Consumer(NODE | {
        "group.id": group, "enable.auto.commit": False, "enable.partition.eof": True, "check.crcs": True,
        "auto.offset.reset": "error",
    })
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in all_of_them])
    ended, deadline = set(), time.monotonic() + PATIENCE
    while len(ended) < len(all_of_them):
        assert time.monotonic() < deadline, f"only {ended} are read to their ends"
        for record in reader.consume(1000, timeout=1):
            if record.error() is None:
                seen("held", record)
            elif record.error().code() == KafkaError._PARTITION_EOF:
                ended.add((record.topic(), record.partition()))
            else:
                raise KafkaException(record.error())
    began = now()
    for one in reader.committed([TopicPartition(*one) for one in all_of_them], timeout=PATIENCE):
        note("looked", topic=one.topic, partition=one.partition, next=max(one.offset, 0), began=began)
    reader.close()


threading.Thread(target=until_standard_input_ends, daemon=True).start()
{"topics": topics, "produce": produce, "consume": consume, "read": read}[ROLE]()
