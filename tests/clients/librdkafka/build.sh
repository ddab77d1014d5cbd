#!/usr/bin/env bash
# Builds librdkafka and its own tests, from the source that the crate rdkafka-sys ships: build.sh DIRECTORY
set -euo pipefail
manifest=$(dirname "$0")/Cargo.toml
cargo fetch --quiet --locked --manifest-path "$manifest"
crate=$(cargo metadata --locked --offline --format-version=1 --manifest-path "$manifest" |
  grep -o '"manifest_path":"[^"]*/rdkafka-sys-[^"]*/Cargo.toml"' | cut -d '"' -f 4)
cp -R "$(dirname "$crate")/librdkafka/." "$1"
cd "$1"
# The tests take three nodes for granted where they make topics; there is one.
sed -i 's/\(rd_kafka_NewTopic_new(topicname, partition_cnt, \)replication_factor,/\11,/' tests/test.c
grep -q 'topicname, partition_cnt, 1,' tests/test.c
# Without what a node does not speak yet: TLS, SASL, tokens over HTTP.
./configure --disable-optimization --disable-debug-symbols --CFLAGS=-O1 --CXXFLAGS=-O1 \
  --disable-ssl --disable-gssapi --disable-curl --disable-lz4-ext
make -j "$(nproc)" libs
make -j "$(nproc)" -C tests build
