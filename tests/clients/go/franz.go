package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz tries franz-go. Its producers are idempotent unless told otherwise.
func franz(node string) {
	f := openFranz(node)
	f.codecs()
	f.seek()
	f.groups()
	f.administration()
	f.client.Close()
}

type franzGo struct {
	node   string
	client *kgo.Client
}

func openFranz(node string) franzGo {
	return franzGo{node, must(kgo.NewClient(kgo.SeedBrokers(node)))}
}

func (f franzGo) open(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append(options, kgo.SeedBrokers(f.node))...))
}

func (f franzGo) create(topic string, partitions int32) {
	_ = must(kadm.NewClient(f.client).CreateTopic(within(), partitions, 1, nil, topic))
}

func (f franzGo) produce(topic string, partition int32, values []string, options ...kgo.Opt) {
	producer := f.open(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer producer.Close()
	var records []*kgo.Record
	for at, value := range values {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: partition, Key: []byte(strconv.Itoa(at)), Value: []byte(value),
			Timestamp: began.Add(time.Duration(at) * time.Second),
			Headers:   []kgo.RecordHeader{{Key: "at", Value: []byte(strconv.Itoa(at))}},
		})
	}
	check(producer.ProduceSync(within(), records...).FirstErr())
}

// read takes count records.
func read(client *kgo.Client, count int) (records []*kgo.Record) {
	for len(records) < count {
		fetches := client.PollRecords(within(), count-len(records))
		check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func (f franzGo) readFrom(topic string, at kgo.Offset, count int) []*kgo.Record {
	partitions := map[string]map[int32]kgo.Offset{topic: {0: at}}
	reader := f.open(kgo.ConsumePartitions(partitions), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer reader.Close()
	return read(reader, count)
}

func (f franzGo) codecs() {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		topic := "franz-" + name
		f.create(topic, 1)
		wanted := values(name, records)
		f.produce(topic, 0, wanted, kgo.ProducerBatchCompression(codec))
		got := f.readFrom(topic, kgo.NewOffset().AtStart(), records)
		for at, record := range got {
			same(name, int64(at), record.Offset)
			same(name, wanted[at], string(record.Value))
			same(name, strconv.Itoa(at), string(record.Key))
			same(name, "at="+string(record.Key), record.Headers[0].Key+"="+string(record.Headers[0].Value))
			same(name, began.Add(time.Duration(at)*time.Second).UnixMilli(), record.Timestamp.UnixMilli())
		}
	}
	say("franz-go", "codecs")
}

func (f franzGo) seek() {
	same("by offset", records-3, f.readFrom("franz-none", kgo.NewOffset().At(records-3), 1)[0].Offset)
	time := began.UnixMilli() + 99_001
	same("by time", 100, f.readFrom("franz-none", kgo.NewOffset().AfterMilli(time), 1)[0].Offset)
	ends := must(kadm.NewClient(f.client).ListEndOffsets(within(), "franz-none"))
	end, _ := ends.Lookup("franz-none", 0)
	same("end", records, end.Offset)
	say("franz-go", "seek")
}

// groups: two members share four partitions; one leaves, and the other goes on where it was.
func (f franzGo) groups() {
	const topic, group = "franz-groups", "franz-readers"
	f.create(topic, 4)
	var wanted, seen []string
	write := func(what string, count int) {
		for partition := range int32(4) {
			more := values(fmt.Sprint(what, partition), count)
			f.produce(topic, partition, more)
			wanted = append(wanted, more...)
		}
	}
	join := func() *kgo.Client {
		return f.open(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
			kgo.HeartbeatInterval(500*time.Millisecond))
	}
	// What is delivered is committed before the next rebalance, so that nothing may come twice.
	take := func(member *kgo.Client) {
		soon, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		for _, record := range member.PollRecords(soon, 10).Records() {
			seen = append(seen, string(record.Value))
		}
		check(member.CommitUncommittedOffsets(within()))
		member.AllowRebalance()
	}
	admin := kadm.NewClient(f.client)
	write("first", 20)
	stayer, leaver := join(), join()
	for shared := false; !shared; {
		take(stayer)
		take(leaver)
		described := must(admin.DescribeGroups(within(), group))[group]
		shared = described.State == "Stable" && len(described.Members) == 2
	}
	leaver.Close()
	write("second", 5)
	for len(seen) < len(wanted) {
		take(stayer)
	}
	stayer.Close()
	slices.Sort(seen)
	slices.Sort(wanted)
	same("groups", fmt.Sprint(wanted), fmt.Sprint(seen))

	f.produce(topic, 3, []string{"last"})
	late := join()
	same("resumed", "last", string(read(late, 1)[0].Value))
	check(late.CommitUncommittedOffsets(within()))
	late.CloseAllowingRebalance()
	var committed int64
	must(admin.FetchOffsets(within(), group)).Each(func(at kadm.OffsetResponse) { committed += at.At })
	same("committed", int64(len(wanted)+1), committed)
	say("franz-go", "groups")
}

func (f franzGo) administration() {
	const topic, group = "franz-admin", "franz-administered"
	admin := kadm.NewClient(f.client)
	kept := "60000000"
	_ = must(admin.CreateTopic(within(), 1, 1, map[string]*string{"retention.ms": &kept}, topic))
	larger := "2000000"
	altered := must(admin.AlterTopicConfigs(within(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &larger}}, topic))
	check(altered[0].Err)
	described := must(must(admin.DescribeTopicConfigs(within(), topic)).On(topic, nil))
	configs := map[string]string{}
	for _, config := range described.Configs {
		configs[config.Key] = config.MaybeValue()
	}
	same("retention.ms", kept, configs["retention.ms"])
	same("max.message.bytes", larger, configs["max.message.bytes"])
	check(must(admin.UpdatePartitions(within(), 3, topic)).Error())
	same("partitions", 3, len(must(admin.ListTopics(within(), topic))[topic].Partitions))

	f.produce(topic, 0, values("x", 10))
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 4, -1)
	deleted, _ := must(admin.DeleteRecords(within(), before)).Lookup(topic, 0)
	same("deleted", 4, deleted.LowWatermark)
	same("first", 4, f.readFrom(topic, kgo.NewOffset().AtStart(), 6)[0].Offset)

	check(admin.CommitAllOffsets(within(), group, before))
	committed, _ := must(admin.FetchOffsets(within(), group)).Lookup(topic, 0)
	same("committed", 4, committed.At)
	check(must(admin.DeleteGroup(within(), group)).Err)
	check(must(admin.DeleteTopic(within(), topic)).Err)
	say("franz-go", "administration")
}

// retries: what was sent in small requests is there once and in order.
func (f franzGo) retries() {
	topics, wanted := retried("franz")
	for _, topic := range topics {
		f.create(topic, 1)
	}
	producer := f.open(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(512),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))
	var sent []*kgo.Record
	for at := range wanted[0] {
		for of, topic := range topics {
			sent = append(sent, &kgo.Record{Topic: topic, Value: []byte(wanted[of][at])})
		}
	}
	check(producer.ProduceSync(within(), sent...).FirstErr())
	producer.Close()
	for of, topic := range topics {
		ends := must(kadm.NewClient(f.client).ListEndOffsets(within(), topic))
		end, _ := ends.Lookup(topic, 0)
		var got []string
		for _, record := range f.readFrom(topic, kgo.NewOffset().AtStart(), int(end.Offset)) {
			got = append(got, string(record.Value))
		}
		same(topic, fmt.Sprint(wanted[of]), fmt.Sprint(got))
	}
	say("franz-go", "retries")
}
