#!/usr/bin/env bash
# Kafka's own command-line tools against a node: tools.sh HOST:PORT, with their folder in FLUMEN_KAFKA_TOOLS
set -euo pipefail
node=$1
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

# tool CLASS OPTIONS...
tool() {
  local class=$1
  shift
  java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$FLUMEN_KAFKA_TOOLS/*" "$class" --bootstrap-server "$node" "$@"
}
topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand --entity-type topics --entity-name tools "$@"; }
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
produce() { tool org.apache.kafka.tools.ConsoleProducer "$@"; }
consume() { tool org.apache.kafka.tools.consumer.ConsoleConsumer "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell "$@"; }

# says WHAT WORDS TEXT
says() {
  [[ $3 == *$2* ]] || { printf 'Kafka'\''s tools: %s: no `%s` in:\n%s\n' "$1" "$2" "$3" >&2; exit 1; }
  echo "Kafka's tools: $1"
}

topics --create --topic tools --partitions 2 --config retention.ms=60000000 --config compression.type=gzip
says "kafka-topics" "PartitionCount: 2" "$(topics --describe --topic tools)"

configs --alter --add-config max.message.bytes=2000000
says "kafka-configs" "max.message.bytes=2000000" "$(configs --describe)"

node_configs() { tool kafka.admin.ConfigCommand --entity-type brokers "$@"; }
node_configs --entity-default --alter --add-config log.retention.ms=70000000,num.partitions=3
says "kafka-configs, all nodes" "log.retention.ms=70000000" "$(node_configs --entity-default --describe)"
node_configs --entity-name 1 --alter --add-config compression.type=lz4
says "kafka-configs, one node" "DYNAMIC_BROKER_CONFIG:compression.type=lz4" \
  "$(node_configs --entity-name 1 --describe)"
node_configs --entity-name 1 --alter --delete-config compression.type
node_configs --entity-default --alter --delete-config log.retention.ms,num.partitions

seq -f 'line %g' 1 1000 >"$work/wanted"
produce --topic tools --compression-codec zstd <"$work/wanted"
consume --topic tools --group tools-readers --from-beginning --max-messages 1000 2>"$work/err" | sort -V >"$work/got"
cmp "$work/wanted" "$work/got" || { cat "$work/err" >&2; exit 1; }
says "kafka-console-producer and -consumer" "1000" "$(cat "$work/err")"

says "kafka-consumer-groups" "tools-readers" "$(groups --describe --group tools-readers)"
says "kafka-consumer-groups, reset" "tools-readers" \
  "$(groups --group tools-readers --topic tools:0 --reset-offsets --to-earliest --execute)"

# Each codec behind the one before it; the topic comes to be when it is written to.
for codec in none gzip snappy lz4 zstd; do
  if [ $codec = lz4 ]; then
    # Real time: what was written before is older than this, and what comes is not.
    sleep 0.01 && middle=$(date +%s%3N)
  fi
  seq -f "$codec %g, and enough of it to be worth compressing" 1 200 | tee -a "$work/codecs" |
    produce --topic tools-codecs --compression-codec $codec
done
same() { cmp "$2" "$3" >&2 && echo "Kafka's tools: $1"; }
consume --topic tools-codecs --partition 0 --offset earliest --max-messages 1000 >"$work/got" 2>"$work/err"
same "kafka-console-producer, all codecs" "$work/codecs" "$work/got"
consume --topic tools-codecs --partition 0 --offset 650 --max-messages 350 >"$work/got" 2>"$work/err"
same "kafka-console-consumer, from an offset" <(tail -n 350 "$work/codecs") "$work/got"
says "kafka-get-offsets, the end" "tools-codecs:0:1000" "$(offsets --topic tools-codecs)"
says "kafka-get-offsets, the beginning" "tools-codecs:0:0" "$(offsets --topic tools-codecs --time earliest)"
says "kafka-get-offsets, by time" "tools-codecs:0:600" "$(offsets --topic tools-codecs --time "$middle")"
# Idempotent without being asked: the node knows five producers, each by the last of its sequence numbers.
tool org.apache.kafka.tools.TransactionsCommand describe-producers --topic tools-codecs --partition 0 >"$work/producers"
says "kafka-transactions, producers" "5 of 199" "$(awk '$4 == 199' "$work/producers" | wc -l) of 199"

# Of a topic that is on local disks alone nothing is ever to be uploaded, which is no error.
pending=$(offsets --topic tools --time earliest-pending-upload 2>&1)
says "kafka-get-offsets, of what is not uploaded yet" "none" "${pending:-none}"
versions=$(tool org.apache.kafka.tools.BrokerApiVersionsCommand)
for range in "Produce(0): 0 to 11" "Fetch(1): 4 to 18" "ListOffsets(2): 1 to 11" "DeleteGroups(42): 0 to 3"; do
  says "kafka-broker-api-versions, $range" "$range" "$versions"
done
topics --delete --topic tools
