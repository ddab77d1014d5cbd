/* What the comparison needs of a client beside librdkafka's own rdkafka_performance:
 *
 *   client create  BROKERS TOPIC PARTITIONS [NAME=VALUE ...]    a topic, with its settings
 *   client delete  BROKERS TOPIC
 *   client latency BROKERS TOPIC RATE SECONDS [NAME=VALUE ...]  due time to received, in an open loop
 *
 * The loop is open: each record is due at a fixed moment, whatever became of the ones before it, and
 * carries that moment. What a stalled broker delays is therefore counted from when it should have
 * been sent. Records of the first WARM_UP_S seconds warm both sides up and are not counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "rdkafka.h"
/* The HDR histogram that librdkafka keeps for its own statistics. */
#include "rd.h"
#include "rdhdrhistogram.h"

#define WARM_UP_S 3
#define RECORD_BYTES 100
/* How long records may take that were sent last. */
#define PATIENCE_NS (5 * 1000000000LL)

static void die(const char *what, const char *why) {
    fprintf(stderr, "client: %s: %s\n", what, why);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static rd_kafka_conf_t *settings(const char *brokers) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why) ||
        rd_kafka_conf_set(conf, "broker.address.family", "v4", why, sizeof why))
        die("settings", why);
    return conf;
}

static rd_kafka_t *start(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char why[256];
    rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof why);
    if (!client)
        die("start", why);
    return client;
}

/* Splits NAME=VALUE. */
static const char *value_of(char *setting) {
    char *equals = strchr(setting, '=');
    if (!equals)
        die(setting, "this is no NAME=VALUE");
    *equals = 0;
    return equals + 1;
}

static int create(int count, char **args) {
    char why[256];
    rd_kafka_t *client = start(RD_KAFKA_PRODUCER, settings(args[0]));
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(args[1], atoi(args[2]), 1, why, sizeof why);
    if (!topic)
        die(args[1], why);
    for (int i = 3; i < count; i++) {
        const char *value = value_of(args[i]);
        rd_kafka_NewTopic_set_config(topic, args[i], value);
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 60000);
    if (!event || rd_kafka_event_error(event))
        die(args[1], event ? rd_kafka_event_error_string(event) : "no answer");
    size_t results;
    const rd_kafka_topic_result_t **result =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &results);
    if (rd_kafka_topic_result_error(result[0]))
        die(args[1], rd_kafka_topic_result_error_string(result[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_destroy(client);
    return 0;
}

static int delete(char **args) {
    rd_kafka_t *client = start(RD_KAFKA_PRODUCER, settings(args[0]));
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(args[1]);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 60000);
    if (!event || rd_kafka_event_error(event))
        die(args[1], event ? rd_kafka_event_error_string(event) : "no answer");
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteTopic_destroy(topic);
    rd_kafka_destroy(client);
    return 0;
}

struct receiver {
    rd_kafka_t *client;
    int64_t counted_from;
    int64_t wanted;
    int64_t received;
    int64_t until;
    int64_t max_us;
    rd_hdr_histogram_t *histogram;
};

static void *receive(void *arg) {
    struct receiver *receiver = arg;
    while (receiver->received < receiver->wanted && now_ns() < receiver->until) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(receiver->client, 100);
        int64_t received = now_ns(), due;
        if (!message)
            continue;
        if (!message->err && message->len == RECORD_BYTES) {
            memcpy(&due, message->payload, sizeof due);
            if (due)
                receiver->received++;
            if (due >= receiver->counted_from) {
                int64_t us = (received - due) / 1000;
                rd_hdr_histogram_record(receiver->histogram, us);
                if (us > receiver->max_us)
                    receiver->max_us = us;
            }
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void put(rd_kafka_t *producer, const char *topic, int64_t due) {
    char record[RECORD_BYTES] = {0};
    memcpy(record, &due, sizeof due);
    rd_kafka_resp_err_t error;
    do {
        error = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                                  RD_KAFKA_V_VALUE(record, sizeof record),
                                  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        /* The queue is full: it is late from here on, and counted so. */
        if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            rd_kafka_poll(producer, 1);
    } while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    if (error)
        die("produce", rd_kafka_err2str(error));
}

/* A consumer that has reached the end of the topic, so that it waits for what comes. */
static rd_kafka_t *tail(const char *brokers, const char *topic, rd_kafka_t *producer) {
    char why[256];
    rd_kafka_conf_t *conf = settings(brokers);
    const char *wanted[][2] = {{"group.id", "latency"}, {"enable.auto.commit", "false"},
                               {"fetch.wait.max.ms", "500"}, {"auto.offset.reset", "earliest"}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (rd_kafka_conf_set(conf, wanted[i][0], wanted[i][1], why, sizeof why))
            die(wanted[i][0], why);
    rd_kafka_t *consumer = start(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t error = rd_kafka_assign(consumer, list);
    if (error)
        die("assign", rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(list);
    put(producer, topic, 0);
    rd_kafka_flush(producer, 10000);
    rd_kafka_message_t *first = rd_kafka_consumer_poll(consumer, 10000);
    if (!first || first->err)
        die("consume", first ? rd_kafka_message_errstr(first) : "the first record did not come");
    rd_kafka_message_destroy(first);
    return consumer;
}

static int latency(int count, char **args) {
    char why[256];
    rd_kafka_conf_t *conf = settings(args[0]);
    double rate = atof(args[2]), seconds = atof(args[3]);
    /* The kernel may wake a sleeper 50 us late unless told otherwise: that is no broker's. */
    if (prctl(PR_SET_TIMERSLACK, 1))
        die("prctl", strerror(errno));
    for (int i = 4; i < count; i++) {
        const char *value = value_of(args[i]);
        if (rd_kafka_conf_set(conf, args[i], value, why, sizeof why))
            die(args[i], why);
    }
    rd_kafka_t *producer = start(RD_KAFKA_PRODUCER, conf);
    struct receiver receiver = {.client = tail(args[0], args[1], producer)};
    int64_t begin = now_ns() + 100000000, sent = (seconds + WARM_UP_S) * rate;
    int64_t every_ns = 1e9 / rate;
    receiver.counted_from = begin + WARM_UP_S * 1000000000LL;
    receiver.wanted = sent;
    receiver.until = begin + sent * every_ns + PATIENCE_NS;
    receiver.histogram = rd_hdr_histogram_new(1, 60000000, 3);
    pthread_t thread;
    pthread_create(&thread, NULL, receive, &receiver);
    for (int64_t i = 0; i < sent; i++) {
        int64_t due = begin + i * every_ns;
        struct timespec t = {due / 1000000000, due % 1000000000};
        if (now_ns() < due)
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
                ;
        put(producer, args[1], due);
        rd_kafka_poll(producer, 0);
        if (now_ns() > receiver.until)
            break;
    }
    pthread_join(thread, NULL);
    rd_hdr_histogram_t *h = receiver.histogram;
    printf("{\"sent\": %" PRId64 ", \"received\": %" PRId64 ", \"p50_us\": %" PRId64
           ", \"p99_us\": %" PRId64 ", \"p999_us\": %" PRId64 ", \"max_us\": %" PRId64 "}\n",
           sent, receiver.received, rd_hdr_histogram_quantile(h, 50),
           rd_hdr_histogram_quantile(h, 99), rd_hdr_histogram_quantile(h, 99.9), receiver.max_us);
    /* A broker that cannot keep up would be waited for long. */
    _exit(0 * fflush(stdout));
}

int main(int count, char **args) {
    if (count >= 5 && !strcmp(args[1], "create"))
        return create(count - 2, args + 2);
    if (count == 4 && !strcmp(args[1], "delete"))
        return delete(args + 2);
    if (count >= 6 && !strcmp(args[1], "latency"))
        return latency(count - 2, args + 2);
    fprintf(stderr, "client create BROKERS TOPIC PARTITIONS [NAME=VALUE ...]\n"
                    "client delete BROKERS TOPIC\n"
                    "client latency BROKERS TOPIC RATE SECONDS [NAME=VALUE ...]\n");
    return 2;
}
