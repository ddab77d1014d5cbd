"""What is measured. Each row is a function that measures one broker once, and returns its figures; the
brokers have their turns in `run`, round by round."""

import json
import mmap
import os
import re
import subprocess
import time

import wire

LAZY, SYNCED = "9223372036854775807", "1"
# linger.ms is a second by default there, and batches a million bytes; every row says its own.
LIBRDKAFKA = ["-X", "broker.address.family=v4", "-q"]
# More than a turn takes of page cache and buffers.
PAGES_BYTES = 3 << 30
PRODUCE = [*LIBRDKAFKA, "-X", "linger.ms=5", "-X", "batch.size=65536", "-a", "-1"]
RATE = re.compile(r"in (\d+)ms: (\d+) msgs/s|consumed in (\d+)ms: (\d+) msgs/s")


class Tools:
    """Programs that load a broker."""

    def __init__(self, performance, client, kafka_tools, quick):
        self.performance, self.client, self.quick = performance, client, quick
        self.java = ["java", "-Xms512m", "-Xmx512m", "-cp", kafka_tools + "/*"]
        self.made = 0

    def new_topic(self, broker, partitions, flush_messages):
        self.made += 1
        name = f"t{self.made}-{partitions}"
        if broker.keeps_topics:
            self.ask_client("create", broker, name, str(partitions), f"flush.messages={flush_messages}")
        return name

    def drop_topic(self, broker, name):
        broker.forget()
        if broker.keeps_topics:
            self.ask_client("delete", broker, name)

    def ask_client(self, what, broker, *args):
        command = [self.client, what, f"127.0.0.1:{broker.port}", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self, broker, *args):
        command = [self.performance, *args, "-b", f"127.0.0.1:{broker.port}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rates(processes):
    """Records a second of processes that ran beside each other."""
    total = 0
    for process in processes:
        said = process.communicate()[0]
        found = RATE.findall(said)
        if process.returncode or not found:
            raise RuntimeError(f"rdkafka_performance failed:\n{said[-2000:]}")
        total += int(found[-1][1] or found[-1][3])
    return total


def settle():
    """Leaves nothing of the turn before: its pages are written back, and there are free ones.

    A virtual machine gives free memory back to its host, from where it comes at 10 µs a page (2.8 s a
    gigabyte were seen): ten times what a broker does with what goes into it. So it is touched before.
    """
    os.sync()
    touched = mmap.mmap(-1, PAGES_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    touched.close()


def produce(tools, broker, size, partitions, producers, flush_messages, count):
    """`count` records of `size` bytes in all, to a new topic."""
    count = count // 10 if tools.quick else count
    topic = tools.new_topic(broker, partitions, flush_messages)
    settle()
    before = broker.cpu_s()
    args = ["-P", "-t", topic, "-s", str(size), "-c", str(count // producers), *PRODUCE]
    rate = rates([tools.start(broker, *args) for _ in range(producers)])
    cpu_s = broker.cpu_s() - before
    tools.drop_topic(broker, topic)
    return {"records_per_s": rate, "mb_per_s": rate * size / 1e6,
            "cpu_ms_per_mb": cpu_s * 1e9 / (count * size)}


def consume(tools, broker, size, count):
    """Reads a topic from the page cache, which was written just before."""
    count = count // 10 if tools.quick else count
    topic = tools.new_topic(broker, 1, LAZY)
    settle()
    rates([tools.start(broker, "-P", "-t", topic, "-s", str(size), "-c", str(count), *PRODUCE)])
    before = broker.cpu_s()
    args = ["-C", "-t", topic, "-p", "0", "-o", "beginning", "-c", str(count), *LIBRDKAFKA]
    rate = rates([tools.start(broker, *args)])
    cpu_s = broker.cpu_s() - before
    tools.drop_topic(broker, topic)
    return {"records_per_s": rate, "mb_per_s": rate * size / 1e6,
            "cpu_ms_per_mb": cpu_s * 1e9 / (count * size)}


def java(tools, broker, size, count):
    """Kafka's own clients for the same: they take more of the machine than either broker."""
    count = count // 10 if tools.quick else count
    topic = tools.new_topic(broker, 1, LAZY)
    settle()
    servers = f"127.0.0.1:{broker.port}"
    said = subprocess.run(
        [*tools.java, "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records",
         str(count), "--record-size", str(size), "--throughput", "-1", "--producer-props",
         f"bootstrap.servers={servers}", "acks=all", "linger.ms=5", "batch.size=65536"],
        check=True, capture_output=True, text=True).stdout
    produced = float(re.findall(r"([\d.]+) records/sec", said)[-1])
    said = subprocess.run(
        [*tools.java, "org.apache.kafka.tools.ConsumerPerformance", "--topic", topic, "--num-records",
         str(count), "--bootstrap-server", servers, "--timeout", "60000"],
        check=True, capture_output=True, text=True).stdout
    # start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
    consumed = float(said.strip().splitlines()[-1].split(",")[9])
    tools.drop_topic(broker, topic)
    return {"produced_per_s": produced, "consumed_per_s": consumed}


def latency(tools, broker, rate, seconds, flush_messages):
    """From when each record was due until it was received; the producer waits for no more (linger 0)."""
    seconds = 2 if tools.quick else seconds
    topic = tools.new_topic(broker, 1, flush_messages)
    said = json.loads(tools.ask_client("latency", broker, topic, str(rate), str(seconds), "linger.ms=0",
                                       "acks=all"))
    tools.drop_topic(broker, topic)
    said["lost"] = said["sent"] - said["received"]
    return said


def startup(broker):
    """From the start of its process until an append to a topic that was there is acknowledged."""
    if not os.path.exists(broker.dir):
        broker.start()
        broker.wait()
        wire.Connection(broker.port).ask(wire.create_topic("there", 1))
        broker.stop()
    began = broker.start()
    took = wire.first_ack(broker.port, "there", began + 120) - began
    broker.stop()
    return {"s": took}


def idle(tools, broker):
    """What one takes that has nothing to do, and then each connection and each partition."""
    settle, watch = (2, 2) if tools.quick else (12, 10)
    # New: with no partitions yet, and without what other measurements left.
    broker.wipe()
    broker.start()
    broker.wait()
    time.sleep(settle)
    cpu_s, memory = broker.cpu_s(), broker.memory_bytes()
    time.sleep(watch)
    figures = {"memory_mb": memory / 1e6, "threads": broker.threads(),
               "cpu_percent": (broker.cpu_s() - cpu_s) / watch * 100}
    memory = broker.memory_bytes()
    connections = [wire.Connection(broker.port) for _ in range(1000)]
    for connection in connections:
        connection.ask(wire.API_VERSIONS)
    time.sleep(settle)
    figures["connection_kib"] = (broker.memory_bytes() - memory) / 1000 / 1024
    for connection in connections:
        connection.close()
    time.sleep(settle)
    memory = broker.memory_bytes()
    asking = wire.Connection(broker.port)
    if wire.create_error(asking.ask(wire.create_topic("many", 1000))):
        raise RuntimeError(f"{broker.name} makes no 1,000 partitions")
    time.sleep(settle)
    figures["partition_kib"] = (broker.memory_bytes() - memory) / 1000 / 1024
    asking.close()
    broker.stop()
    broker.wipe()
    return figures


def thousand(broker):
    """A topic of 1,000 partitions asked for, until each has acknowledged an append.

    Nothing is removed between the rounds: for minutes ext4 passes over the inodes of thousands of files
    that have just gone, which takes the kernel ten times as long as it takes a broker to make new ones.
    """
    broker.move()
    broker.start()
    broker.wait()
    connection = wire.Connection(broker.port, 120)
    began = time.monotonic()
    error = wire.create_error(connection.ask(wire.create_topic("many", 1000)))
    if error:
        raise RuntimeError(f"{broker.name} makes no topic: error {error}")
    created = time.monotonic() - began
    left = list(range(1000))
    records = wire.batch()
    while left:
        answers = wire.produce_errors(connection.ask(wire.produce("many", left, records)))
        # A partition that is not ready yet is asked again.
        left = [partition for partition, error in answers if error]
    took = time.monotonic() - began
    connection.close()
    broker.stop()
    return {"s": took, "created_s": created}


def crash(tools, broker):
    """Killed with 2 GiB of log, and started again, until an append is acknowledged."""
    count = (2 << 30) // 1024 // (10 if tools.quick else 1)
    broker.wipe()
    broker.start()
    broker.wait()
    tools.ask_client("create", broker, "there", "1", f"flush.messages={LAZY}")
    rates([tools.start(broker, "-P", "-t", "there", "-s", "1024", "-c", str(count), *PRODUCE)])
    broker.kill()
    began = broker.start()
    took = wire.first_ack(broker.port, "there", began + 120) - began
    broker.stop()
    broker.wipe()
    return {"s": took}
