// Stores for express-rate-limit and @fastify/rate-limit, under the real middlewares.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'

import fastifyRateLimit from '@fastify/rate-limit'
import express from 'express'
import rateLimit from 'express-rate-limit'
import Fastify from 'fastify'
import { ManualClock } from 'quotum'
import { QuotumStore as ExpressStore } from 'quotum/express-rate-limit'
import { QuotumStore as FastifyStore } from 'quotum/fastify-rate-limit'

import { NOON, serve } from './backend.mjs'

function folder (t) {
  const made = mkdtempSync(join(tmpdir(), 'quotum-'))
  t.after(() => rmSync(made, { recursive: true }))
  return made
}

const forKey = request => request.headers['x-key'] ?? 'ana'

describe('of express-rate-limit', () => {
  async function limited (t, { store = {}, ...options } = {}) {
    const errors = []
    const clock = new ManualClock(NOON)
    const made = new ExpressStore({ clock, ...store })
    t.after(() => made.shutdown())
    const logger = { error: error => errors.push(error), warn: () => {} }
    const limiter = rateLimit({ windowMs: 60_000, limit: 3, keyGenerator: forKey, store: made, logger, ...options })
    const app = express()
    app.use(limiter)
    app.get('/', (request, response) => { response.json(request.rateLimit) })
    app.use((error, request, response, next) => { response.status(500).send(error.message) })
    const at = await serve(t, app)
    return { ask: (key = 'ana') => fetch(at, { headers: { 'x-key': key } }), clock, errors, limiter, store: made }
  }
  const statuses = async (ask, count, ...key) => await Promise.all(Array.from({ length: count }, async () => (await ask(...key)).status))

  test('the limit passes, and then nothing until the window ends', async t => {
    const { ask, clock } = await limited(t, { standardHeaders: 'draft-8', identifier: 'api' })
    const first = await ask()
    assert.deepEqual([first.headers.get('x-ratelimit-limit'), first.headers.get('x-ratelimit-remaining')], ['3', '2'])
    assert.match(first.headers.get('ratelimit'), /^"api"; r=2; t=60$/)
    const { used, remaining, resetTime } = await first.json()
    assert.deepEqual([used, remaining, Math.round((Date.parse(resetTime) - Date.now()) / 1_000)], [1, 2, 60])
    assert.deepEqual((await statuses(ask, 10)).sort(), [200, 200, ...Array(8).fill(429)])
    clock.advance(20_000)
    const denied = await ask()
    assert.deepEqual([denied.status, denied.headers.get('retry-after')], [429, '40'])
    assert.equal((await ask('cy')).status, 200)
    clock.advance(40_000)
    assert.equal((await (await ask()).json()).used, 1)
  })

  test('of a burst exactly the limit passes', async t => {
    const { ask } = await limited(t)
    assert.deepEqual((await statuses(ask, 50)).sort(), [...Array(3).fill(200), ...Array(47).fill(429)])
  })

  test('a limit may be a function, and 0', async t => {
    const { ask } = await limited(t, { limit: async request => ({ ana: 2, cy: 5 })[forKey(request)] ?? 0 })
    assert.deepEqual((await statuses(ask, 7, 'ana')).sort(), [200, 200, 429, 429, 429, 429, 429])
    assert.deepEqual((await statuses(ask, 7, 'cy')).sort(), [200, 200, 200, 200, 200, 429, 429])
    assert.equal((await ask('bo')).status, 429)
  })

  test('5,000 other keys do not free one that is blocked', async t => {
    const { ask, store } = await limited(t, { store: { ratesMax: 1_000 } })
    assert.deepEqual((await statuses(ask, 4)).sort(), [200, 200, 200, 429])
    for (let other = 0; other < 5_000; other++) await store.increment(`other-${other}`)
    assert.equal((await ask()).status, 429)
  })

  test('requests that are skipped are taken back, and the others count', async t => {
    const { ask, limiter } = await limited(t, { skipSuccessfulRequests: true })
    assert.deepEqual(await statuses(ask, 3), [200, 200, 200])
    for (let wait = 0; (await limiter.getKey('ana')) !== undefined && wait < 100; wait++) await setTimeout(10)
    assert.equal(await limiter.getKey('ana'), undefined)
    const counting = await limited(t, { skipFailedRequests: true })
    assert.deepEqual((await statuses(counting.ask, 4)).sort(), [200, 200, 200, 429])
    // The one that was denied has failed.
    for (let wait = 0; (await counting.limiter.getKey('ana')).totalHits !== 3 && wait < 100; wait++) await setTimeout(10)
    assert.equal((await counting.limiter.getKey('ana')).totalHits, 3)
  })

  test('hits are looked at and reset', async t => {
    const { ask, limiter, store } = await limited(t)
    assert.equal(await limiter.getKey('ana'), undefined)
    await statuses(ask, 5)
    assert.equal((await limiter.getKey('ana')).totalHits, 5)
    assert.equal((await limiter.getKey('ana')).totalHits, 5)
    await limiter.resetKey('ana')
    assert.deepEqual([await limiter.getKey('ana'), (await ask()).status], [undefined, 200])
    await ask('cy')
    await store.resetAll()
    assert.deepEqual([await limiter.getKey('ana'), await limiter.getKey('cy')], [undefined, undefined])
    assert.deepEqual([store.localKeys, store.prefix], [true, ''])
  })

  test('what cannot be kept is refused, and lets nothing pass', async t => {
    for (const [option, options, words] of [
      ['windowMs', { windowMs: 1_500 }, /`windowMs`: found 1500, expected whole seconds/],
      ['windowMs', { windowMs: 7 * 86_400_000 }, /a quota of a plan/],
      ['skipFailedRequests', { skipFailedRequests: true, store: { url: `sqlite:${folder(t)}/hits.db` } }, /cannot be taken back/],
      ['skipSuccessfulRequests', { skipSuccessfulRequests: true, store: { url: `sqlite:${folder(t)}/hits.db` } }, /cannot be taken back/],
      ['limit', { limit: () => 3, store: { url: `sqlite:${folder(t)}/hits.db` } }, /a limiter for each limit/],
    ]) {
      const { ask } = await limited(t, options)
      const response = await ask()
      const said = await response.text()
      assert.equal(response.status, 500)
      assert.match(said, words)
      assert.ok(said.includes(`\`${option}\``), said)
    }
    const unused = new ExpressStore()
    await assert.rejects(unused.increment('ana'), /was not given to a limiter/)
    await assert.rejects(unused.decrement('ana'), /was not given to a limiter/)
    const shared = new ExpressStore({ url: `sqlite:${folder(t)}/hits.db` })
    await assert.rejects(shared.decrement('ana'), { argument: 'decrement' })
  })

  test('processes that share a store count together, and one gets no more after the other', async t => {
    const store = { url: `sqlite:${folder(t)}/hits.db`, prefix: 'api:' }
    const clock = new ManualClock(NOON)
    const [one, other] = [await limited(t, { store: { ...store, clock } }), await limited(t, { store: { ...store, clock } })]
    assert.deepEqual([(await one.ask()).status, (await other.ask()).status, (await one.ask()).status], [200, 200, 200])
    const denied = await other.ask()
    assert.deepEqual([denied.status, denied.headers.get('x-ratelimit-remaining'), denied.headers.get('retry-after')], [429, '0', '20'])
    assert.equal((await one.limiter.getKey('ana')).totalHits, 3)
    assert.deepEqual([one.store.localKeys, one.store.prefix], [false, 'api:'])
    clock.advance(20_000)
    assert.deepEqual([(await one.ask()).status, (await other.ask()).status], [200, 429])
    await other.limiter.resetKey('ana')
    assert.equal(await one.limiter.getKey('ana'), undefined)
    await assert.rejects(one.store.resetAll(), { argument: 'url' })
  })

  test('a key may be any text or number', async t => {
    const { store } = await limited(t)
    for (const key of ['', '\uD800', 'x'.repeat(10_000), 42]) assert.equal((await store.increment(key)).totalHits, 1)
  })
})

describe('of @fastify/rate-limit', () => {
  async function limited (t, { store = {}, routes = () => {}, ...options } = {}) {
    const clock = new ManualClock(NOON)
    const Store = FastifyStore.using({ clock, ...store })
    const app = Fastify()
    t.after(async () => {
      await app.close()
      await Store.close()
    })
    await app.register(fastifyRateLimit, { max: 3, timeWindow: '1 minute', keyGenerator: forKey, store: Store, ...options })
    app.get('/', async () => 'found')
    routes(app)
    const ask = (key = 'ana', url = '/') => app.inject({ url, headers: { 'x-key': key } })
    await app.ready()
    return { app, ask, clock }
  }
  const statuses = async (ask, count, ...where) =>
    await Promise.all(Array.from({ length: count }, async () => (await ask(...where)).statusCode))

  test('the limit passes, and then nothing until the window ends', async t => {
    const { ask, clock } = await limited(t)
    const first = await ask()
    assert.deepEqual([first.statusCode, first.headers['x-ratelimit-remaining'], first.headers['x-ratelimit-reset']], [200, '2', '60'])
    assert.deepEqual((await statuses(ask, 10)).sort(), [200, 200, ...Array(8).fill(429)])
    clock.advance(20_000)
    const denied = await ask()
    assert.deepEqual([denied.statusCode, denied.headers['retry-after']], [429, '40'])
    assert.equal((await ask('cy')).statusCode, 200)
    clock.advance(40_000)
    assert.equal((await ask()).headers['x-ratelimit-remaining'], '2')
  })

  test('a route counts by itself, in a window of its own', async t => {
    const { ask, clock } = await limited(t, {
      routes: app => {
        app.get('/login', { config: { rateLimit: { max: 1, timeWindow: 10_000 } } }, async () => 'welcome')
        app.get('/free', { config: { rateLimit: { max: async (request, key) => key === 'ana' ? 5 : 0, timeWindow: () => 90_000 } } }, async () => 'free')
      },
    })
    assert.deepEqual(await statuses(ask, 2, 'ana', '/login'), [200, 429])
    assert.deepEqual((await statuses(ask, 6, 'ana', '/free')).sort(), [200, 200, 200, 200, 200, 429])
    assert.equal((await ask('cy', '/free')).statusCode, 429)
    assert.deepEqual((await statuses(ask, 4)).sort(), [200, 200, 200, 429])
    clock.advance(10_000)
    assert.deepEqual([(await ask('ana', '/login')).statusCode, (await ask()).statusCode], [200, 429])
  })

  test('whoever goes on is banned', async t => {
    const { ask } = await limited(t, { ban: 2 })
    assert.deepEqual((await statuses(ask, 7)).sort(), [200, 200, 200, 403, 403, 429, 429])
  })

  test('5,000 other keys do not free one that is blocked, as they do without it', async t => {
    const flood = async ask => {
      for (const status of [200, 200, 200, 429]) assert.equal((await ask()).statusCode, status)
      for (let other = 0; other < 5_000; other++) await ask(`other-${other}`)
      return (await ask()).statusCode
    }
    assert.equal(await flood((await limited(t, { store: { ratesMax: 1_000 } })).ask), 429)
    assert.equal(await flood((await limited(t)).ask), 429)
    const theirs = Fastify()
    t.after(() => theirs.close())
    await theirs.register(fastifyRateLimit, { max: 3, timeWindow: '1 minute', keyGenerator: forKey })
    theirs.get('/', async () => 'found')
    assert.equal(await flood((key = 'ana') => theirs.inject({ url: '/', headers: { 'x-key': key } })), 200)
  })

  test('hits are looked at without being counted', async t => {
    let look
    const { app } = await limited(t, { routes: app => {
      const limit = app.createRateLimit({ max: 2, timeWindow: 5_000 })
      look = increment => async request => await limit(request, { increment })
      app.get('/look', { config: { rateLimit: false } }, async request => (await look(false)(request)).remaining)
      app.get('/count', { config: { rateLimit: false } }, async request => (await look(true)(request)).remaining)
    } })
    const ask = async url => Number((await app.inject({ url })).body)
    assert.deepEqual([await ask('/look'), await ask('/count'), await ask('/look'), await ask('/look'), await ask('/count')], [2, 1, 1, 1, 0])
  })

  test('what cannot be kept keeps the app from starting, or lets nothing pass', async t => {
    const url = `sqlite:${folder(t)}/hits.db`
    for (const [argument, options] of [
      ['timeWindow', { timeWindow: 1_500 }],
      ['timeWindow', { timeWindow: '2 days' }],
      ['continueExceeding', { continueExceeding: true }],
      ['exponentialBackoff', { exponentialBackoff: true }],
      ['ban', { ban: 2, store: { url } }],
    ]) await assert.rejects(limited(t, options), { code: 'invalid_argument', argument })
    const { ask } = await limited(t, { timeWindow: () => 1_500 })
    assert.equal((await ask()).statusCode, 500)
  })

  test('it is given as it is, too', async t => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(fastifyRateLimit, { max: 1, timeWindow: 60_000, store: FastifyStore })
    app.get('/', async () => 'found')
    assert.deepEqual(await statuses(() => app.inject('/'), 2), [200, 429])
  })

  test('processes that share a store count together', async t => {
    const store = { url: `sqlite:${folder(t)}/hits.db`, clock: new ManualClock(NOON) }
    const routes = app => { app.get('/login', { config: { rateLimit: { max: 1 } } }, async () => 'welcome') }
    const [one, other] = [await limited(t, { store, routes }), await limited(t, { store, routes })]
    assert.deepEqual([(await one.ask()).statusCode, (await other.ask()).statusCode, (await one.ask()).statusCode], [200, 200, 200])
    assert.deepEqual([(await other.ask()).statusCode, (await one.ask('cy')).statusCode], [429, 200])
    assert.deepEqual([(await one.ask('ana', '/login')).statusCode, (await other.ask('ana', '/login')).statusCode], [200, 429])
  })
})
