#!/usr/bin/env bash
# kcat (librdkafka) against a node: kcat.sh HOST:PORT [retries]
# With `retries` over connections that break before the answer.
set -euo pipefail
node=$1
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

say() { echo "kcat: $*"; }

# same WHAT WANTED GOT
same() {
  cmp "$2" "$3" >&2 || { say "$1: not what was written" >&2; diff "$2" "$3" | head -5 >&2; exit 1; }
  say "$1"
}

# wrong WHAT GOT
wrong() { say "$1: $2" >&2; exit 1; }

# What was sent idempotently, in small requests of which several are on their way at once.
if [ "${2:-}" = retries ]; then
  seq 1 1800 >"$work/wanted"
  kcat -q -E -b "$node" -P -t kcat-retries -p 0 -X enable.idempotence=true -X batch.num.messages=10 -X linger.ms=1 \
    -X retry.backoff.ms=10 -X reconnect.backoff.ms=10 -X reconnect.backoff.max.ms=100 <"$work/wanted"
  kcat -q -b "$node" -C -t kcat-retries -p 0 -o beginning -e -X check.crcs=true >"$work/got"
  same "retries" "$work/wanted" "$work/got"
  exit
fi

for codec in none gzip snappy lz4 zstd; do
  seq -f "$codec %g, and enough of it to be worth compressing" 1 1000 >"$work/wanted"
  kcat -q -b "$node" -P -t "kcat-$codec" -p 0 -z "$codec" -X enable.idempotence=true <"$work/wanted"
  kcat -q -b "$node" -C -t "kcat-$codec" -p 0 -o beginning -e -X check.crcs=true >"$work/got"
  same "$codec, written idempotently and read back" "$work/wanted" "$work/got"
done

# Keys and a header, and an empty and a null value.
kcat -q -b "$node" -P -t kcat-keys -p 0 -K : -Z -H kind=test <<<$'a:1\nb:\nc:3'
kcat -q -b "$node" -C -t kcat-keys -p 0 -e -Z -f '%o %k %s %h\n' >"$work/got"
printf '%s\n' '0 a 1 kind=test' '1 b NULL kind=test' '2 c 3 kind=test' >"$work/wanted"
same "keys, nulls and headers" "$work/wanted" "$work/got"

listed=$(kcat -b "$node" -L -J)
for topic in kcat-none kcat-zstd kcat-keys; do
  [[ $listed == *"\"topic\":\"$topic\""* ]] || wrong "-L lacks $topic" "$listed"
done
say "-L"

# The first record at or after a time, inside compressed batches too, and the end where there is none.
for codec in gzip snappy lz4 zstd none; do
  times=$(kcat -q -b "$node" -C -t "kcat-$codec" -p 0 -e -f '%T %o\n')
  middle=$(sed -n 500p <<<"$times")
  first=$(awk -v at="${middle% *}" '$1 >= at { print $2; exit }' <<<"$times")
  found=$(kcat -b "$node" -Q -t "kcat-$codec:0:${middle% *}" -t kcat-keys:0:-1 2>&1)
  [[ $found == *"kcat-$codec [0] offset $first"* && $found == *"kcat-keys [0] offset 3"* ]] ||
    wrong "-Q by time: wanted $first and 3" "$found"
  say "-Q by time, $codec"
done
kcat -q -b "$node" -C -t kcat-none -p 0 -o "s@${middle% *}" -e >"$work/got"
seq -f "none %g, and enough of it to be worth compressing" $((first + 1)) 1000 >"$work/wanted"
same "consume from a time" "$work/wanted" "$work/got"
kcat -q -b "$node" -C -t kcat-none -p 0 -o 990 -c 10 >"$work/got"
seq -f "none %g, and enough of it to be worth compressing" 991 1000 >"$work/wanted"
same "consume from an offset" "$work/wanted" "$work/got"

# A member that leaves commits; the next one resumes there.
group() {
  kcat -q -b "$node" -X auto.offset.reset=earliest -X session.timeout.ms=6000 \
    -c 500 -G kcat-readers kcat-gzip 2>/dev/null
}
{ group; group; } >"$work/got"
seq -f "gzip %g, and enough of it to be worth compressing" 1 1000 >"$work/wanted"
same "a group resumes where its last member left" "$work/wanted" "$work/got"

# Two members share two topics that go on being written; one is ended, and the other goes on where it was.
member() {
  kcat -q -u -b "$node" -X auto.offset.reset=earliest -X partition.assignment.strategy=roundrobin \
    -X heartbeat.interval.ms=500 -G kcat-members kcat-left kcat-right >"$work/$1" 2>"$work/$1.err" &
}
write() {
  local at=0
  until [ -e "$work/enough" ]; do
    at=$((at + 1))
    # Real time: members come and go while something is written.
    echo "$1 $at" | tee -a "$work/wrote-$1" && sleep 0.01
  done | kcat -q -b "$node" -P -t "kcat-$1" -p 0
}
# until_is WHAT CONDITION: within a minute
until_is() {
  for _ in $(seq 600); do
    if eval "$2"; then return; fi
    sleep 0.1
  done
  wrong "waited in vain: $1" "$(cat "$work"/*.err)"
}
lines() { cat "$@" | wc -l; }
echo "left 0" | tee "$work/wrote-left" | kcat -q -b "$node" -P -t kcat-left -p 0
echo "right 0" | tee "$work/wrote-right" | kcat -q -b "$node" -P -t kcat-right -p 0
write left &
writers=$!
write right &
writers="$writers $!"
member stayer
stayer=$!
member leaver
leaver=$!
until_is "two members read" '[ -s "$work/stayer" ] && [ -s "$work/leaver" ]'
kill $leaver
wait $leaver || true
before=$(lines "$work/stayer")
until_is "one member reads both" '[ "$(tail -n +$((before + 1)) "$work/stayer" | cut -d " " -f 1 | sort -u | wc -l)" = 2 ]'
touch "$work/enough"
wait $writers
until_is "all is read" '[ $(lines "$work"/{stayer,leaver}) -ge $(lines "$work"/wrote-*) ]'
kill $stayer
wait $stayer || true
sort -V "$work"/wrote-* >"$work/wanted"
sort -V "$work"/{stayer,leaver} >"$work/got"
same "a member that is ended leaves its share to the other" "$work/wanted" "$work/got"
