"""confluent-kafka (librdkafka) over connections that break before the answer: retries.py HOST:PORT

What an idempotent producer sent is there once and in order; what another sent is there too, some of it
twice: else nothing was retried, and the first would prove nothing.
"""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

NODE = {"bootstrap.servers": sys.argv[1]}
PATIENCE = 30
PARTITIONS = 3
RECORDS = 1800


def produce(topic, **settings):
    """Numbers, spread over the partitions, in small requests of which several are on their way at once."""
    failed = []
    producer = Producer(NODE | {
        "linger.ms": 1, "batch.num.messages": 20, "retry.backoff.ms": 10, "retry.backoff.max.ms": 100, "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 100, "acks": "all", **settings,
    })
    for at in range(RECORDS):
        producer.produce(topic, str(at), partition=at % PARTITIONS, on_delivery=lambda error, _: error and failed.append(error))
        producer.poll(0)
    assert producer.flush(PATIENCE * 4) == 0 and not failed, failed


def read(topic, partition):
    reader = Consumer(NODE | {"group.id": "unused", "enable.partition.eof": True, "check.crcs": True})
    reader.assign([TopicPartition(topic, partition, 0)])
    numbers = []
    while True:
        record = reader.poll(PATIENCE)
        assert record is not None, f"{topic} {partition}: silence after {len(numbers)}"
        if record.error():
            break
        numbers.append(int(record.value()))
    reader.close()
    return numbers


admin = AdminClient(NODE)
for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in ["once", "again"]]).values():
    future.result(PATIENCE)
produce("once", **{"enable.idempotence": True})
for partition in range(PARTITIONS):
    assert read("once", partition) == list(range(partition, RECORDS, PARTITIONS)), partition
produce("again", **{"enable.idempotence": False})
again = [read("again", partition) for partition in range(PARTITIONS)]
assert sum(map(len, again)) > RECORDS, "nothing was retried that had been taken already"
for partition, numbers in enumerate(again):
    assert set(numbers) == set(range(partition, RECORDS, PARTITIONS)), partition
print("confluent-kafka: retries")
