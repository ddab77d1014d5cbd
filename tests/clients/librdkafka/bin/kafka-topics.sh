#!/usr/bin/env bash
# What librdkafka's tests call where they make or change a topic with Kafka's own tool.
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$FLUMEN_KAFKA_TOOLS/*" \
  org.apache.kafka.tools.TopicCommand "$@"
