// What users see of the running backend, and what is left of a reservation however an answer ends: on any store.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { ManualClock } from 'quotum'

import { echo, ModelFailed } from '../dist/model.js'
import { newUsers, served, started } from './chatter.mjs'
import { until } from './stores.mjs'

const DAY = 24 * 3_600_000

/** A model that says some words, and then what `end` says. */
const saying = (words, end = () => {}) => async function * (prompt, tokensMax, stop) {
  for (let word = 0; word < words; word++) yield 'well'
  await end(stop)
}

/** A model's thinking, which it only stops when it is told to. */
const thinking = stop => new Promise((_, reject) => { stop.addEventListener('abort', () => { reject(stop.reason) }) })

const statuses = async (times, say) => {
  const found = []
  for (let time = 0; time < times; time++) found.push((await say()).status)
  return found
}

/** Tries the backend on a store. */
export function journey (open) {
  let store
  before(async () => { store = await open() })
  after(async () => { await store?.close() })

  test('an answer is streamed, and charged by what it took', async t => {
    const { ana } = await served(t, store)
    const answered = await ana.say('how are you', 4)
    assert.equal(answered.status, 200)
    assert.equal(answered.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    assert.deepEqual(answered.events, [
      ['word', { text: 'how' }], ['word', { text: 'are' }], ['word', { text: 'you' }], ['word', { text: 'how' }],
      ['done', { consumed: { messages: 1, tokens: 7 }, overage: { messages: 0, tokens: 0 } }],
    ])
    assert.match(answered.headers.get('ratelimit-policy'), /^"messages\/day";q=5;qu="messages", "messages\/month";q=150/)
    assert.match(answered.headers.get('ratelimit'), /"messages\/day";r=4;t=43200/)
    const { quotas, tier, can_send_message, needs_upgrade } = await ana.quota()
    assert.deepEqual([tier, can_send_message, needs_upgrade], ['free', true, false])
    const [midnight, month] = ['2026-03-11T00:00:00.000Z', '2026-04-01T00:00:00.000Z']
    assert.deepEqual(quotas, {
      messages: {
        day: { limit: 5, used: 1, remaining: 4, resets_at: midnight },
        month: { limit: 150, used: 1, remaining: 149, resets_at: month },
      },
      tokens: { month: { limit: 20_000, used: 7, remaining: 19_993, resets_at: month } },
    })
  })

  test('the last message of a day is answered, and the next is 429 with the details', async t => {
    const { ana } = await served(t, store)
    assert.deepEqual(await statuses(4, () => ana.say()), [200, 200, 200, 200])
    const last = await ana.say()
    assert.equal(last.status, 200)
    assert.match(last.headers.get('ratelimit'), /"messages\/day";r=0;/)
    const denied = await ana.say()
    assert.equal(denied.status, 429)
    assert.equal(denied.headers.get('content-type'), 'application/problem+json')
    assert.equal(denied.headers.get('retry-after'), '43200')
    assert.match(denied.headers.get('ratelimit'), /"messages\/day";r=0;t=43200/)
    const { reason, metric, period, requested, limit, used, resets_at, upgrade_to } = denied.json
    assert.deepEqual(
      { reason, metric, period, requested, limit, used, resets_at, upgrade_to },
      {
        reason: 'quota_exhausted', metric: 'messages', period: 'day', requested: 1, limit: 5, used: 5,
        resets_at: '2026-03-11T00:00:00Z', upgrade_to: 'pro',
      },
    )
    const quota = await ana.quota()
    assert.deepEqual([quota.can_send_message, quota.is_quota_exceeded, quota.needs_upgrade], [false, true, true])
    assert.equal(quota.tokens.used, 5 * 11, 'a denied message costs no tokens')
    assert.equal((await ana.as('key-of-ben').say()).status, 200)
  })

  test('a user is warned from 80 % on', async t => {
    const { ana } = await served(t, store)
    const warned = async () => (await ana.say()).headers.get('x-quota-warning')
    assert.deepEqual([await warned(), await warned(), await warned()], [null, null, null])
    assert.deepEqual((await ana.quota()).warning, [])
    assert.equal(await warned(), 'messages/day')
    const quota = await ana.quota()
    assert.deepEqual([quota.warning, quota.can_send_message, quota.needs_upgrade], [['messages/day'], true, false])
  })

  test('of a burst at the edge exactly the limit is answered, however many instances there are', async t => {
    const { ana, keys } = await served(t, store, { model: echo(5) })
    const { ana: elsewhere } = await served(t, store, { model: echo(5), keys })
    assert.deepEqual(await statuses(2, () => ana.say()), [200, 200])
    const both = Array.from({ length: 15 }, () => [ana, elsewhere]).flat()
    const said = await Promise.all(both.map(async instance => (await instance.say()).status))
    assert.deepEqual(said.sort(), [...Array(3).fill(200), ...Array(27).fill(429)])
    assert.deepEqual(await ana.settled(), { messages: 5, tokens: 55 })
  })

  test('a new day gives messages back at midnight, without anything that runs then, and a new month all of them', async t => {
    const { ana, clock } = await served(t, store, { clock: new ManualClock(new Date('2026-03-01T23:59:59Z')) })
    assert.deepEqual(await statuses(6, () => ana.say('well', 1)), [200, 200, 200, 200, 200, 429])
    clock.advance(1_000)
    for (let day = 2; day <= 30; day++) {
      assert.deepEqual(await statuses(5, () => ana.say('well', 1)), [200, 200, 200, 200, 200], `on day ${day}`)
      clock.advance(DAY)
    }
    const denied = await ana.say('well', 1)
    const { metric, period, used, resets_at } = denied.json
    assert.deepEqual([denied.status, metric, period, used], [429, 'messages', 'month', 150])
    assert.equal(resets_at, '2026-04-01T00:00:00Z')
    assert.equal((await ana.quota()).day.used, 0)
    clock.advance(DAY)
    assert.equal((await ana.say('well', 1)).status, 200)
    const { day, month, tokens } = await ana.quota()
    assert.deepEqual([day.used, month.used, tokens.used], [1, 1, 2])
  })

  test('a dearer tier is in force at once, and what was used still counts', async t => {
    const { ana } = await served(t, store)
    assert.deepEqual(await statuses(6, () => ana.say()), [200, 200, 200, 200, 200, 429])
    const upgraded = await ana.upgrade('pro')
    assert.deepEqual([upgraded.status, upgraded.json.tier], [200, 'pro'])
    assert.equal((await ana.say()).status, 200)
    const { quotas } = (await ana.ask('/quota')).json
    assert.deepEqual([quotas.messages.day.limit, quotas.messages.day.used, quotas.tokens.month.used], [100, 6, 66])
  })

  test('only a visible tier above is an upgrade', async t => {
    const { ana } = await served(t, store)
    assert.equal((await ana.upgrade('max')).status, 200)
    for (const tier of ['free', 'max', 'enterprise', 'no-such-tier']) {
      assert.equal((await ana.upgrade(tier)).status, 409, tier)
    }
    assert.equal((await ana.ask('/quota')).json.tier, 'max')
  })

  test('a client that goes away leaves nothing held, and pays for what was streamed', async t => {
    const { ana } = await served(t, store, { model: saying(3, thinking) })
    const answer = await ana.words(3)
    const { day, tokens } = await ana.quota()
    assert.deepEqual([day.used, day.remaining, tokens.used, tokens.remaining], [0, 4, 0, 20_000 - 4_001])
    answer.leave()
    assert.deepEqual(await ana.settled(), { messages: 1, tokens: 4 })
  })

  test('hanging up before every last word gains nobody a sixth message', async t => {
    const { ana } = await served(t, store, { model: saying(3, thinking) })
    for (let message = 1; message <= 5; message++) {
      (await ana.words(3)).leave()
      assert.deepEqual(await ana.settled(), { messages: message, tokens: 4 * message })
    }
    assert.equal((await ana.say()).status, 429)
  })

  test('an answer that takes too long is cut off, and paid for as far as it went', async t => {
    const { ana } = await served(t, store, { model: saying(3, thinking), answerMsMax: 300 })
    const answer = await ana.words(3)
    await assert.rejects(answer.rest())
    assert.deepEqual(await ana.settled(), { messages: 1, tokens: 4 })
  })

  for (const words of [0, 3]) {
    test(`a model that fails after ${words} words costs nothing`, async t => {
      const { ana } = await served(t, store, { model: saying(words, () => { throw new ModelFailed() }) })
      const { status, events } = await ana.say()
      assert.deepEqual([status, events.map(([name]) => name)], [200, [...Array(words).fill('word'), 'error']])
      assert.deepEqual(await ana.settled(), { messages: 0, tokens: 0 })
    })
  }

  test('a bug in the model costs nothing', async t => {
    const { ana } = await served(t, store, { model: saying(3, () => { throw new TypeError('a bug') }) })
    await assert.rejects(ana.say())
    assert.deepEqual(await ana.settled(), { messages: 0, tokens: 0 })
  })

  test('an answer that is shorter than what was reserved gives the rest back', async t => {
    const { ana } = await served(t, store, { model: saying(1) })
    const answered = await ana.say('is it', 4_000)
    assert.match(answered.headers.get('ratelimit'), /"tokens\/month";r=15998/)
    assert.deepEqual(answered.events.at(-1)[1].consumed, { messages: 1, tokens: 3 })
    const { used, remaining } = (await ana.quota()).tokens
    assert.deepEqual([used, remaining], [3, 19_997])
  })

  test('an answer that is longer than what was reserved is charged whole, and what did not fit is told', async t => {
    const { ana } = await served(t, store, { model: saying(15_000) })
    assert.deepEqual((await ana.say()).events.at(-1)[1].overage, { messages: 0, tokens: 0 })
    assert.equal((await ana.quota()).tokens.used, 15_001)
    assert.deepEqual((await ana.say()).events.at(-1)[1], {
      consumed: { messages: 1, tokens: 15_001 },
      overage: { messages: 0, tokens: 10_002 },
    })
    const { used, remaining } = (await ana.quota()).tokens
    assert.deepEqual([used, remaining], [20_000, 0])
    assert.equal((await ana.say()).json.metric, 'tokens')
  })

  test('what does not fit any more is denied before the model is asked', async t => {
    let asked = 0
    const { ana } = await served(t, store, { model: () => (asked++, saying(4_000)()) })
    assert.deepEqual(await statuses(4, () => ana.say('hello', 4_000)), [200, 200, 200, 200])
    const { status, json: { metric, requested } } = await ana.say('hello', 4_000)
    assert.deepEqual([status, metric, requested, asked], [429, 'tokens', 4_001, 4])
    const { day, tokens } = await ana.quota()
    assert.deepEqual([day.used, tokens.used], [4, 16_004])
    assert.equal((await ana.say('hello', 3_000)).status, 200)
  })

  test('who is not known, and what is no message, is not answered and not counted', async t => {
    const { ana } = await served(t, store)
    const nobody = ana.as('key-of-nobody')
    for (const path of ['/quota', '/usage/stats']) assert.equal((await nobody.ask(path)).status, 401, path)
    assert.deepEqual([(await nobody.say()).status, (await nobody.upgrade('pro')).status], [401, 401])
    for (const [prompt, tokens_max] of [[' ', 10], ['', 10], ['hello', 0], ['hello', 4_001]]) {
      assert.equal((await ana.say(prompt, tokens_max)).status, 400)
    }
    assert.deepEqual(await ana.settled(), { messages: 0, tokens: 0 })
  })

  test('a store that is down is 503 and never 429, and knows everything when it is back', async t => {
    const { ana, clock } = await served(t, store, { quotumUrl: store.hurried, storeTimeoutMs: 3_000 })
    assert.equal((await ana.say()).status, 200)
    await store.down()
    try {
      for (let time = 0; time < 5; time++) {
        const down = await ana.say()
        assert.deepEqual([down.status, down.json.reason], [503, 'store_unavailable'])
        assert.match(down.headers.get('retry-after'), /^\d+$/)
      }
      // An SQLite file that nobody can write to can still be read.
      if (!store.url.startsWith('sqlite:')) assert.equal((await ana.ask('/quota')).status, 503)
    } finally {
      await store.up()
    }
    // It is left alone for a second or two after it has failed so often.
    const isBack = async () => {
      clock.advance(1_000)
      return (await ana.say()).status === 200
    }
    await until(isBack, 'the store is not asked any more')
    assert.deepEqual(await ana.settled(), { messages: 2, tokens: 22 })
  })

  test('a store that goes down meanwhile does not spoil the answer', async t => {
    let goOn
    const model = saying(1, () => new Promise(resolve => { goOn = resolve }))
    const { ana } = await served(t, store, { model, quotumUrl: store.hurried, storeTimeoutMs: 3_000 })
    const answer = await ana.words(1)
    await store.down()
    try {
      goOn()
      assert.deepEqual((await answer.rest()).at(-1), ['done', {}])
    } finally {
      await store.up()
    }
  })

  test('a killed process forgets nothing, and holds nothing for ever', async t => {
    const [[key, user]] = newUsers()
    const environment = { CHAT_KEYS: `${key}=${user}`, MODEL_PAUSE_MS: '20', ANSWER_MS_MAX: '3000', STORE_TIMEOUT_MS: '1000' }
    const { ana, kill } = await started(t, store, environment)
    assert.equal((await ana.say('hello', 2)).status, 200)
    const answer = await ana.words(1)
    await kill('SIGKILL')
    await assert.rejects(answer.rest())
    const { ana: again } = await started(t, store, environment)
    const { day, tokens } = await again.quota()
    assert.deepEqual([day.used, day.remaining, tokens.used, tokens.remaining], [1, 3, 3, 20_000 - 3 - 4_001])
    assert.deepEqual(await again.settled(), { messages: 1, tokens: 3 })
  })

  test('a process that is ended ends the answers under way, and its successor knows them', async t => {
    const [[key, user]] = newUsers()
    const environment = { CHAT_KEYS: `${key}=${user}`, MODEL_PAUSE_MS: '20' }
    const { ana, kill } = await started(t, store, environment)
    const answer = await ana.words(1, { tokens_max: 20 })
    const ended = kill('SIGTERM')
    assert.deepEqual((await answer.rest()).at(-1)[1].consumed, { messages: 1, tokens: 21 })
    assert.equal(await ended, 0)
    const { ana: again } = await started(t, store, environment)
    assert.deepEqual(await again.settled(), { messages: 1, tokens: 21 })
  })

  test('tiers have names in two languages, and an order', async t => {
    const { ana } = await served(t, store)
    const { json: tiers } = await ana.ask('/tiers')
    assert.deepEqual(tiers.map(({ id, display_order }) => [id, display_order]), [['free', 0], ['pro', 1], ['max', 2]])
    assert.deepEqual(tiers[0].names, { en: 'Free', fr: 'Gratuit' })
    assert.deepEqual(tiers[0].limits.messages, ['5/day', '150/month'])
    assert.deepEqual(tiers[1].prices, { monthly: 'XOF 7000' })
    const { json: enterprise } = await ana.ask('/tiers/enterprise')
    assert.deepEqual([enterprise.names.fr, enterprise.is_visible], ['Entreprise', false])
    assert.deepEqual(enterprise.limits.messages, ['unlimited'])
    assert.equal((await ana.ask('/tiers/no-such-tier')).status, 404)
  })

  test('statistics tell what happened day by day', async t => {
    const { ana, clock } = await served(t, store)
    for (let message = 0; message < 6; message++) await ana.say()
    clock.advance(DAY)
    await ana.say()
    await ana.upgrade('pro')
    let days
    const isLogged = async () => {
      days = (await ana.ask('/usage/stats')).json.days
      return days[0]?.events.subscription_changed === 1 && days[1]?.events.quota_exhausted === 1
    }
    await until(isLogged, 'events are not logged')
    assert.deepEqual(days.map(({ date }) => date), ['2026-03-11', '2026-03-10'])
    assert.deepEqual(days[1].events, { quota_check_success: 5, quota_threshold_reached: 2, quota_exhausted: 1 })
    clock.advance(DAY)
    assert.equal((await ana.ask('/usage/stats?days=1')).json.days.length, 1)
  })
}
