// Kafka's own clients for Java against a node: java Client.java HOST:PORT

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class Client {
    static final Duration PATIENCE = Duration.ofSeconds(20);
    static final int RECORDS = 300;
    /** An hour ago, since what is older than a topic keeps is deleted. */
    static final long BEGAN = System.currentTimeMillis() - 3_600_000;

    static String node;
    static Admin admin;

    interface Check {
        void run() throws Exception;
    }

    public static void main(String[] args) {
        node = args[0];
        admin = Admin.create(Map.of("bootstrap.servers", node));
        check("codecs", Client::codecs);
        check("seek", Client::seek);
        check("groups", Client::groups);
        check("static members", Client::staticMembers);
        check("administration", Client::administration);
        admin.close();
    }

    static void check(String name, Check check) {
        try {
            check.run();
        } catch (Exception | AssertionError why) {
            why.printStackTrace();
            System.exit(1);
        }
        System.out.println("Kafka's clients for Java: " + name);
    }

    static void same(Object wanted, Object got) {
        if (!wanted.equals(got)) throw new AssertionError("wanted " + wanted + ", got " + got);
    }

    static void create(String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    /** Each value a second later than the one before it. Producers are idempotent unless told otherwise. */
    static List<String> produce(String topic, int partition, String what, int count, String codec) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", node, "compression.type", codec);
        List<String> values = new ArrayList<>();
        var sent = new ArrayList<java.util.concurrent.Future<RecordMetadata>>();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int at = 0; at < count; at++) {
                String value = what + " " + partition + " " + at;
                var headers = List.<org.apache.kafka.common.header.Header>of(new RecordHeader("at", new byte[] {7}));
                sent.add(producer.send(new ProducerRecord<>(topic, partition, BEGAN + at * 1000L, "" + at, value, headers)));
                values.add(value);
            }
        }
        for (var one : sent) one.get();
        return values;
    }

    static KafkaConsumer<String, String> consumer(String group, Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", node, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "heartbeat.interval.ms", 500, "max.poll.records", 10));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> reader, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (records.size() < count) {
            if (System.nanoTime() > end) throw new AssertionError(records.size() + " of " + count + " records");
            for (var record : reader.poll(Duration.ofMillis(100))) records.add(record);
        }
        return records;
    }

    static void codecs() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = "java-" + codec;
            create(topic, 1);
            List<String> values = produce(topic, 0, codec, RECORDS, codec);
            try (var reader = consumer("unused", Map.of("isolation.level", "read_committed"))) {
                reader.assign(List.of(new TopicPartition(topic, 0)));
                var records = read(reader, RECORDS);
                same(values, records.stream().map(ConsumerRecord::value).toList());
                var record = records.get(7);
                same(7L, record.offset());
                same("7", record.key());
                same(BEGAN + 7_000, record.timestamp());
                same((byte) 7, record.headers().lastHeader("at").value()[0]);
            }
        }
    }

    static void seek() throws Exception {
        var at = new TopicPartition("java-none", 0);
        try (var reader = consumer("unused", Map.of())) {
            reader.assign(List.of(at));
            reader.seek(at, RECORDS - 3);
            same((long) RECORDS - 3, read(reader, 3).get(0).offset());
            var found = reader.offsetsForTimes(Map.of(at, BEGAN + 99_001)).get(at);
            same(100L, found.offset());
            same(BEGAN + 100_000, found.timestamp());
            same(Map.of(at, 0L), reader.beginningOffsets(List.of(at)));
            same(Map.of(at, (long) RECORDS), reader.endOffsets(List.of(at)));
        }
        var newest = admin.listOffsets(Map.of(at, OffsetSpec.maxTimestamp())).partitionResult(at).get();
        same(RECORDS - 1L, newest.offset());
    }

    /** What is delivered is committed at once; a cooperative member may be told to wait until it has joined again. */
    static void take(KafkaConsumer<String, String> member, List<String> seen) {
        var records = member.poll(Duration.ofMillis(50));
        for (var record : records) seen.add(record.value());
        try {
            if (!records.isEmpty()) member.commitSync();
        } catch (RebalanceInProgressException joining) {
            // The next commit takes these as well.
        }
    }

    static void groups() throws Exception {
        for (String how : List.of("Range", "CooperativeSticky")) {
            String topic = "java-" + how, group = topic + "-readers";
            Map<String, Object> assignor = Map.of(
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + how + "Assignor");
            create(topic, 4);
            List<String> seen = new ArrayList<>();
            List<String> wanted = new ArrayList<>();
            for (int partition = 0; partition < 4; partition++) wanted.addAll(produce(topic, partition, how, 50, "none"));
            var stayer = consumer(group, assignor);
            var leaver = consumer(group, assignor);
            var members = List.of(stayer, leaver);
            for (var member : members) member.subscribe(List.of(topic));
            shareOut(members, seen);
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            same(2, described.members().size());
            same(GroupState.STABLE, described.groupState());

            leaver.close();
            for (int partition = 0; partition < 4; partition++) wanted.addAll(produce(topic, partition, "more", 1, "none"));
            while (new TreeSet<>(seen).size() < wanted.size()) take(stayer, seen);
            stayer.close();
            same(new TreeSet<>(wanted), new TreeSet<>(seen));
            if (how.equals("Range")) same(wanted.size(), seen.size());

            produce(topic, 3, "last", 1, "none");
            try (var late = consumer(group, assignor)) {
                late.subscribe(List.of(topic));
                same("last 3 0", read(late, 1).get(0).value());
                late.commitSync();
            }
            var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            same(wanted.size() + 1L, committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum());
        }
    }

    /** Polls all of them until they share the four partitions. */
    static void shareOut(List<KafkaConsumer<String, String>> members, List<String> seen) {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!members.stream().allMatch(member -> member.assignment().size() == 2)) {
            if (System.nanoTime() > end) throw new AssertionError("the members do not share the partitions");
            for (var member : members) take(member, seen);
        }
    }

    /** A member with a lasting name that comes back takes up its partitions without a new assignment. */
    static void staticMembers() throws Exception {
        String topic = "java-static", group = "java-static-readers";
        create(topic, 2);
        List<String> wanted = produce(topic, 0, "first", 5, "none");
        Map<String, Object> named = Map.of("group.instance.id", "the-one");
        for (int life = 0; life < 2; life++) {
            try (var member = consumer(group, named)) {
                member.subscribe(List.of(topic));
                same(wanted, read(member, 5).stream().map(ConsumerRecord::value).toList());
                member.commitSync();
            }
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            same(Optional.of("the-one"), described.members().iterator().next().groupInstanceId());
            wanted = produce(topic, 0, "then", 5, "none");
        }
        var leaving = new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("the-one")));
        admin.removeMembersFromConsumerGroup(group, leaving).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    static void administration() throws Exception {
        String topic = "java-admin", group = "java-administered";
        var at = new TopicPartition(topic, 0);
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "60000000")))).all().get();
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<AlterConfigOp> set =
            List.of(new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000"), AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, set)).all().get();
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        same("60000000", config.get("retention.ms").value());
        same("2000", config.get("max.message.bytes").value());
        same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("max.message.bytes").source());
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        same(3, admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());

        produce(topic, 0, "x", 10, "none");
        same(4L, admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(at).get().lowWatermark());
        var first = admin.listOffsets(Map.of(at, OffsetSpec.earliest())).partitionResult(at).get();
        same(4L, first.offset());
        same(1, admin.describeProducers(List.of(at)).partitionResult(at).get().activeProducers().size());

        admin.alterConsumerGroupOffsets(group, Map.of(at, new OffsetAndMetadata(7))).all().get();
        same(7L, admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(at).offset());
        same(true, admin.listGroups().all().get().stream().anyMatch(found -> found.groupId().equals(group)));
        admin.deleteConsumerGroupOffsets(group, Set.of(at)).all().get();

        var broker = admin.describeCluster().nodes().get().iterator().next().id();
        var dirs = admin.describeLogDirs(List.of(broker)).allDescriptions().get().get(broker);
        same(1L, dirs.values().stream().filter(dir -> dir.replicaInfos().containsKey(at)).count());
        admin.deleteTopics(List.of(topic)).all().get();
        same(false, admin.listTopics().names().get().contains(topic));
    }
}
