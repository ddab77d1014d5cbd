package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// saramas tries sarama.
func saramas(node string) {
	s := openSarama(node)
	s.codecs()
	s.seek()
	s.groups()
	s.administration()
	check(s.admin.Close())
}

type saramaClient struct {
	node   []string
	client sarama.Client
	admin  sarama.ClusterAdmin
}

func openSarama(node string) saramaClient {
	client := must(sarama.NewClient([]string{node}, settings()))
	return saramaClient{[]string{node}, client, must(sarama.NewClusterAdminFromClient(client))}
}

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return config
}

func (s saramaClient) create(topic string, partitions int32) {
	check(s.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
}

func (s saramaClient) produce(topic string, partition int32, values []string, codec sarama.CompressionCodec) {
	config := settings()
	config.Producer.Compression = codec
	producer := must(sarama.NewSyncProducer(s.node, config))
	var messages []*sarama.ProducerMessage
	for at, value := range values {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Partition: partition,
			Key: sarama.StringEncoder(strconv.Itoa(at)), Value: sarama.StringEncoder(value),
			Timestamp: began.Add(time.Duration(at) * time.Second),
		})
	}
	check(producer.SendMessages(messages))
	check(producer.Close())
}

func (s saramaClient) readFrom(topic string, offset int64, count int) (read []*sarama.ConsumerMessage) {
	consumer := must(sarama.NewConsumerFromClient(s.client))
	partition := must(consumer.ConsumePartition(topic, 0, offset))
	for range count {
		select {
		case message := <-partition.Messages():
			read = append(read, message)
		case <-end.Done():
			panic(fmt.Sprintf("%s: %d of %d records", topic, len(read), count))
		}
	}
	check(partition.Close())
	return read
}

func (s saramaClient) codecs() {
	for codec := sarama.CompressionNone; codec <= sarama.CompressionZSTD; codec++ {
		topic := "sarama-" + codec.String()
		s.create(topic, 1)
		wanted := values(topic, records)
		s.produce(topic, 0, wanted, codec)
		for at, message := range s.readFrom(topic, sarama.OffsetOldest, records) {
			same(topic, int64(at), message.Offset)
			same(topic, wanted[at], string(message.Value))
			same(topic, strconv.Itoa(at), string(message.Key))
			same(topic, began.Add(time.Duration(at)*time.Second).UnixMilli(), message.Timestamp.UnixMilli())
		}
	}
	say("sarama", "codecs")
}

func (s saramaClient) seek() {
	same("by offset", records-3, s.readFrom("sarama-none", records-3, 1)[0].Offset)
	same("by time", 100, must(s.client.GetOffset("sarama-none", 0, began.UnixMilli()+99_001)))
	same("first", 0, must(s.client.GetOffset("sarama-none", 0, sarama.OffsetOldest)))
	same("end", records, must(s.client.GetOffset("sarama-none", 0, sarama.OffsetNewest)))
	say("sarama", "seek")
}

// member of a group: what it is given is committed at once, so that nothing may come twice.
type member struct {
	seen chan string
	stop context.CancelFunc
	done sync.WaitGroup
}

func (*member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			session.Commit()
			m.seen <- string(message.Value)
		case <-session.Context().Done():
			return nil
		}
	}
}

func (s saramaClient) join(group, topic string, seen chan string) *member {
	consumer := must(sarama.NewConsumerGroup(s.node, group, settings()))
	going, stop := context.WithCancel(end)
	m := &member{seen: seen, stop: stop}
	m.done.Go(func() {
		for going.Err() == nil {
			check(consumer.Consume(going, []string{topic}, m))
		}
		check(consumer.Close())
	})
	return m
}

func (m *member) leave() {
	m.stop()
	m.done.Wait()
}

// groups: two members share four partitions; one leaves, and the other goes on where it was.
func (s saramaClient) groups() {
	const topic, group = "sarama-groups", "sarama-readers"
	s.create(topic, 4)
	delivered := make(chan string, 1000)
	var wanted, seen []string
	write := func(what string, count int) {
		for partition := range int32(4) {
			more := values(fmt.Sprint(what, partition), count)
			s.produce(topic, partition, more, sarama.CompressionNone)
			wanted = append(wanted, more...)
		}
		for len(seen) < len(wanted) {
			select {
			case value := <-delivered:
				seen = append(seen, value)
			case <-end.Done():
				panic(fmt.Sprintf("%d of %d records", len(seen), len(wanted)))
			}
		}
	}
	stayer, leaver := s.join(group, topic, delivered), s.join(group, topic, delivered)
	for shared := false; !shared; {
		described := must(s.admin.DescribeConsumerGroups([]string{group}))[0]
		shared = described.State == "Stable" && len(described.Members) == 2
	}
	write("first", 10)
	leaver.leave()
	write("second", 2)
	stayer.leave()
	slices.Sort(seen)
	slices.Sort(wanted)
	same("groups", fmt.Sprint(wanted), fmt.Sprint(seen))

	late := s.join(group, topic, delivered)
	write("last", 1)
	late.leave()
	var committed int64
	offsets := must(s.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2, 3}}))
	for _, at := range offsets.Blocks[topic] {
		committed += at.Offset
	}
	same("committed", int64(len(wanted)), committed)
	say("sarama", "groups")
}

func (s saramaClient) administration() {
	const topic, group = "sarama-admin", "sarama-readers"
	kept, larger := "60000000", "2000000"
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &kept}}
	check(s.admin.CreateTopic(topic, detail, false))
	set := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &larger}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{"max.message.bytes": set}
	check(s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false))
	configs := map[string]string{}
	for _, config := range must(s.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})) {
		configs[config.Name] = config.Value
	}
	same("retention.ms", kept, configs["retention.ms"])
	same("max.message.bytes", larger, configs["max.message.bytes"])
	check(s.admin.CreatePartitions(topic, 3, nil, false))
	same("partitions", 3, len(must(s.admin.DescribeTopics([]string{topic}))[0].Partitions))

	s.produce(topic, 0, values("x", 10), sarama.CompressionNone)
	check(s.admin.DeleteRecords(topic, map[int32]int64{0: 4}))
	same("first", 4, must(s.client.GetOffset(topic, 0, sarama.OffsetOldest)))
	_, listed := must(s.admin.ListConsumerGroups())[group]
	same("listed", true, listed)
	check(s.admin.DeleteConsumerGroup(group))
	check(s.admin.DeleteTopic(topic))
	say("sarama", "administration")
}

// retries: what was sent in small requests is there once and in order.
func (s saramaClient) retries() {
	topics, wanted := retried("sarama")
	for _, topic := range topics {
		s.create(topic, 1)
	}
	config := settings()
	config.Producer.Flush.MaxMessages = 6
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = 100, 10*time.Millisecond
	producer := must(sarama.NewSyncProducer(s.node, config))
	var sent []*sarama.ProducerMessage
	for at := range wanted[0] {
		for of, topic := range topics {
			sent = append(sent, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(wanted[of][at])})
		}
	}
	check(producer.SendMessages(sent))
	check(producer.Close())
	for of, topic := range topics {
		var got []string
		count := must(s.client.GetOffset(topic, 0, sarama.OffsetNewest))
		for _, message := range s.readFrom(topic, sarama.OffsetOldest, int(count)) {
			got = append(got, string(message.Value))
		}
		same(topic, fmt.Sprint(wanted[of]), fmt.Sprint(got))
	}
	say("sarama", "retries")
}
