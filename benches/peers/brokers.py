"""The brokers: started, looked at from outside, paused, killed."""

import glob
import os
import shutil
import signal
import subprocess
import time
import uuid

import wire

TICKS = os.sysconf("SC_CLK_TCK")
# Upstream's own flags of the JVM, and the heap that `kafka-server-start.sh` asks for.
JVM = ("-Xms1g -Xmx1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "
       "-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent "
       "-XX:MaxInlineLevel=15 -Djava.awt.headless=true").split()
# Only while brokers take turns: one that is paused must not be taken for dead.
PAUSED = "broker.session.timeout.ms=3600000\nbroker.heartbeat.interval.ms=1000\n"
LOGGING = """<Configuration><Appenders><Console name="out"><PatternLayout pattern="%d %p %m%n"/></Console>
</Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Broker:
    """One that may run; its process, and what can be seen of it."""

    keeps_topics = True

    def __init__(self, name, port, scratch):
        self.name, self.port, self.process = name, port, None
        self.first_dir = self.dir = os.path.join(scratch, name)
        self.log = os.path.join(scratch, name + ".log")

    def command(self):
        raise NotImplementedError

    def start(self):
        """Starts it; returns the moment."""
        log = open(self.log, "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        log.close()
        return began

    def wait(self, patience=60):
        """Until it answers."""
        until = time.monotonic() + patience
        while True:
            try:
                connection = wire.Connection(self.port)
                connection.ask(wire.API_VERSIONS)
                return connection.close()
            except (OSError, ConnectionError):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name} does not start; see {self.log}") from None
                time.sleep(0.02)

    def stop(self):
        self.resume()
        self.process.terminate()
        self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def move(self):
        """Goes on in a directory that is new, and leaves what is in the others until it is wiped."""
        number = 1
        while os.path.exists(f"{self.first_dir}-{number}"):
            number += 1
        self.dir = f"{self.first_dir}-{number}"

    def wipe(self):
        for path in [self.first_dir, *glob.glob(f"{self.first_dir}-[0-9]*")]:
            shutil.rmtree(path, ignore_errors=True)
        self.dir = self.first_dir

    def forget(self):
        """What it took in a turn is not needed any more."""

    def cpu_s(self):
        """Processor seconds that all its threads have taken, the kernel's workers for it included."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_bytes(self):
        """Resident memory; of pages that others map too, its share."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel tells no Pss")

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


class Flumen(Broker):
    def __init__(self, binary, port, scratch, name="flumen"):
        super().__init__(name, port, scratch)
        self.binary = binary

    def command(self):
        return [self.binary, "serve", "--data", self.dir, "--listen", f"127.0.0.1:{self.port}"]


class Ceiling(Broker):
    """Acknowledges and stores nothing: what the client could reach at most."""

    keeps_topics = False

    def __init__(self, binary, port, scratch, name="ceiling"):
        super().__init__(name, port, scratch)
        self.binary = binary

    def command(self):
        return [self.binary, "--listen", f"127.0.0.1:{self.port}"]


class Floor(Ceiling):
    """Acknowledges, and writes to one file whatever comes: what taking and storing costs at least."""

    def __init__(self, binary, port, scratch):
        super().__init__(binary, port, scratch, "floor")

    def start(self):
        os.makedirs(self.dir, exist_ok=True)
        return super().start()

    def command(self):
        return [*super().command(), "--store", os.path.join(self.dir, "stored")]

    def forget(self):
        os.truncate(os.path.join(self.dir, "stored"), 0)


class Relay(Ceiling):
    """Hands what comes to whoever waits for it, from memory: how long the way takes at least."""

    def __init__(self, binary, port, scratch):
        super().__init__(binary, port, scratch, "relay")

    def command(self):
        return [*super().command(), "--relay"]


class Kafka(Broker):
    def __init__(self, jars, port, scratch, name="kafka", may_be_paused=True):
        super().__init__(name, port, scratch)
        self.properties = self.first_dir + ".properties"
        self.logging = os.path.join(scratch, "log4j2.xml")
        self.more = PAUSED if may_be_paused else ""
        self.java = ["java", *JVM, f"-Dlog4j2.configurationFile={self.logging}", "-cp", jars + "/*"]

    def command(self):
        return [*self.java, "kafka.Kafka", self.properties]

    def start(self):
        if not os.path.exists(self.dir):
            with open(self.logging, "w") as logging:
                logging.write(LOGGING)
            with open(self.properties, "w") as properties:
                text = PROPERTIES.format(port=self.port, controller=self.port + 1, data=self.dir)
                properties.write(text + self.more)
            subprocess.run(
                [*self.java, "kafka.tools.StorageTool", "format", "--ignore-formatted",
                 "-t", str(uuid.uuid4()), "-c", self.properties],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return super().start()
