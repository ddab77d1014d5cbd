// kafkajs against a node: kafkajs.js HOST:PORT [retries]
// With `retries` over connections that break before the answer.
'use strict'

const assert = require('node:assert')
const lz4 = require('lz4js')
const snappy = require('kafkajs-snappy')
const zstd = require('@bokuweb/zstd-wasm')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

const PATIENCE_MS = 30_000
const RECORDS = 200
// An hour ago, since what is older than a topic keeps is deleted.
const BEGAN = Date.now() - 3_600_000

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async bytes => Buffer.from(lz4.decompress(bytes)),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async bytes => Buffer.from(zstd.decompress(bytes)),
})

const kafka = new Kafka({ brokers: [process.argv[2]], clientId: 'kafkajs', logLevel: logLevel.NOTHING })
const admin = kafka.admin()

const create = (topic, numPartitions, configEntries = []) =>
  admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] })

// Each value a second later than the one before it.
async function produce(topic, partition, values, compression = CompressionTypes.None) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const messages = values.map((value, at) => ({
    partition, value, key: `${at}`, timestamp: `${BEGAN + at * 1000}`, headers: { at: `${at}` },
  }))
  await producer.send({ topic, messages, compression })
  await producer.disconnect()
}

async function until(what, is) {
  const end = Date.now() + PATIENCE_MS
  while (!(await is())) {
    assert(Date.now() < end, `waited in vain: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

// A member of a group. Where what it is given is committed at once, nothing may come twice.
async function join(groupId, topics, seen, commits) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 500, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      seen.push({ ...message, topic })
      if (commits) await consumer.commitOffsets([{ topic, partition, offset: `${BigInt(message.offset) + 1n}` }])
    },
  })
  return consumer
}

const values = (what, count) => Array.from({ length: count }, (_, at) => `${what} ${at} `.repeat(20))
const texts = seen => seen.map(message => message.value.toString()).sort()

async function codecs() {
  await zstd.init()
  const wanted = new Map()
  for (const [name, codec] of Object.entries(CompressionTypes)) {
    const topic = `kafkajs-${name}`
    wanted.set(topic, values(name, RECORDS))
    await create(topic, 1)
    await produce(topic, 0, wanted.get(topic), codec)
  }
  const seen = []
  const reader = await join('kafkajs-codecs', [...wanted.keys()], seen, false)
  await until('codecs', () => seen.length >= RECORDS * wanted.size)
  await reader.disconnect()
  for (const [topic, values] of wanted) {
    const got = seen.filter(message => message.topic === topic)
    assert.deepEqual(got.map(message => message.value.toString()), values)
    assert.deepEqual(got.map(message => Number(message.offset)), values.map((_, at) => at))
    assert.equal(got[7].key.toString() + got[7].headers.at.toString(), '77')
    assert.equal(Number(got[7].timestamp), BEGAN + 7000)
  }
}

async function seek() {
  const topic = 'kafkajs-None'
  const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, BEGAN + 99_001)
  assert.equal(found.offset, '100')
  const [ends] = await admin.fetchTopicOffsets(topic)
  assert.deepEqual([ends.low, ends.high], ['0', `${RECORDS}`])
  const seen = []
  const reader = await join('kafkajs-seekers', [topic], seen, false)
  reader.seek({ topic, partition: 0, offset: found.offset })
  await until('seek', () => seen.length >= RECORDS - 100)
  await reader.disconnect()
  assert.equal(seen[0].offset, '100')
}

// Two members share four partitions; one leaves, and the other goes on where it was.
async function groups() {
  const [topic, group] = ['kafkajs-groups', 'kafkajs-readers']
  await create(topic, 4)
  const [seen, wanted] = [[], []]
  const write = async (what, count) => {
    for (let partition = 0; partition < 4; partition++) {
      const more = values(`${what} ${partition}`, count)
      await produce(topic, partition, more)
      wanted.push(...more)
    }
    await until(what, () => seen.length >= wanted.length)
    assert.deepEqual(texts(seen), wanted.toSorted())
  }
  const [stayer, leaver] = await Promise.all([join(group, [topic], seen, true), join(group, [topic], seen, true)])
  await until('two members', async () => {
    const [described] = (await admin.describeGroups([group])).groups
    return described.state === 'Stable' && described.members.length === 2
  })
  await write('first', 10)
  await leaver.disconnect()
  await write('second', 2)
  await stayer.disconnect()
  const late = await join(group, [topic], seen, true)
  await write('last', 1)
  await late.disconnect()
  const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  const total = committed.partitions.reduce((sum, at) => sum + Number(at.offset), 0)
  assert.equal(total, wanted.length)
}

async function administration() {
  const [topic, group] = ['kafkajs-admin', 'kafkajs-readers']
  await create(topic, 1, [{ name: 'retention.ms', value: '60000000' }])
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const configEntries = [{ name: 'max.message.bytes', value: '2000000' }]
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] })
  const described = await admin.describeConfigs({ includeSynonyms: true, resources: [resource] })
  const configs = new Map(described.resources[0].configEntries.map(entry => [entry.configName, entry.configValue]))
  assert.equal(configs.get('max.message.bytes'), '2000000')
  // AlterConfigs replaces all settings of a topic by those that it names.
  assert.equal(configs.get('retention.ms'), '604800000')
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  const metadata = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(metadata.topics[0].partitions.length, 3)

  await produce(topic, 0, values('x', 10))
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
  const offsets = await admin.fetchTopicOffsets(topic)
  assert.equal(offsets.find(at => at.partition === 0).low, '4')
  assert((await admin.listGroups()).groups.some(found => found.groupId === group))
  await admin.deleteGroups([group])
  assert.equal((await admin.describeCluster()).brokers.length, 1)
  await admin.deleteTopics({ topics: [topic] })
  assert(!(await admin.listTopics()).includes(topic))
}

// What an idempotent producer sent is there once and in order. One `send` at a time: another that waits behind
// one that fails takes the sequence numbers of that one, and counts as sent already.
async function retries() {
  const [topic, count, partitions] = ['kafkajs-retries', 200, 3]
  await create(topic, partitions)
  const retry = { initialRetryTime: 10, maxRetryTime: 100, retries: 20 }
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry })
  await producer.connect()
  for (let at = 0; at < count; at++) {
    const messages = Array.from({ length: partitions }, (_, partition) => ({ partition, value: `${at} ${partition}` }))
    await producer.send({ topic, messages })
  }
  await producer.disconnect()
  const seen = []
  const reader = await join('kafkajs-retries', [topic], seen, false)
  const ends = await admin.fetchTopicOffsets(topic)
  await until('all', () => seen.length >= ends.reduce((sum, at) => sum + Number(at.high), 0))
  await reader.disconnect()
  for (let partition = 0; partition < partitions; partition++) {
    const got = seen.map(message => message.value.toString()).filter(value => value.endsWith(` ${partition}`))
    assert.deepEqual(got, Array.from({ length: count }, (_, at) => `${at} ${partition}`))
  }
}

async function main() {
  await admin.connect()
  const checks = process.argv[3] === 'retries' ? [retries] : [codecs, seek, groups, administration]
  for (const check of checks) {
    await check()
    console.log(`kafkajs: ${check.name}`)
  }
  await admin.disconnect()
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
