// Kafka's own clients for Java over connections that break before the answer: java Retries.java HOST:PORT
// What an idempotent producer sent is there once and in order.

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

public class Retries {
    static final int PARTITIONS = 3;
    static final int RECORDS = 1200;

    public static void main(String[] args) throws Exception {
        String node = args[0];
        try (var admin = Admin.create(Map.of("bootstrap.servers", node))) {
            admin.createTopics(List.of(new NewTopic("retries", PARTITIONS, (short) 1))).all().get();
        }
        Map<String, Object> sending = Map.of("bootstrap.servers", node, "linger.ms", 0, "batch.size", 0,
            "retry.backoff.ms", 10, "reconnect.backoff.ms", 10, "reconnect.backoff.max.ms", 100);
        var sent = new ArrayList<Future<RecordMetadata>>();
        try (var producer = new KafkaProducer<>(sending, new StringSerializer(), new StringSerializer())) {
            for (int at = 0; at < RECORDS; at++) {
                sent.add(producer.send(new ProducerRecord<>("retries", at % PARTITIONS, null, "" + at)));
            }
        }
        for (var one : sent) one.get();
        Map<String, Object> reading = Map.of("bootstrap.servers", node);
        try (var reader = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
            for (int partition = 0; partition < PARTITIONS; partition++) {
                var from = new TopicPartition("retries", partition);
                reader.assign(List.of(from));
                reader.seekToBeginning(List.of(from));
                long end = reader.endOffsets(List.of(from)).get(from);
                var got = new ArrayList<String>();
                while (reader.position(from) < end) {
                    reader.poll(Duration.ofSeconds(1)).forEach(record -> got.add(record.value()));
                }
                var wanted = new ArrayList<String>();
                for (int at = partition; at < RECORDS; at += PARTITIONS) wanted.add("" + at);
                if (!got.equals(wanted)) {
                    throw new AssertionError(from + ": " + wanted.size() + " were sent, and there are " + got.size());
                }
            }
        }
        System.out.println("Kafka's clients for Java: retries");
    }
}
