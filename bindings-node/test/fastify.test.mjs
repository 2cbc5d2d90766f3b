// Quotas for Fastify: real apps, injected and by HTTP.
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'

import Fastify from 'fastify'
import { Quota } from 'quotum'
import { admissionOf, byAddress, fastifyQuotas } from 'quotum/fastify'

import { ANA, brokenEngine, engine, firstPart, keep, limitsOf, tokensOf, usedOnceNothingIsHeld, warningsOf } from './backend.mjs'

const asks = (rules, more = {}) => ({ config: { quotum: rules }, ...more })

async function started (t, options = {}, quota) {
  quota ??= await engine(t)
  const app = Fastify()
  t.after(() => app.close())
  app.register(fastifyQuotas, { quota, trustedHops: 1, ...options })
  app.get('/search', asks({ rate: 'api', costs: { searches: 1 } }), async request => {
    const { subject, quotas } = request.quotum.decision
    return { for: subject, left: quotas[0].remaining }
  })
  app.get('/both', asks([{ rate: 'api' }, { costs: { searches: 1 } }]), async () => 'found')
  app.get('/failing', asks({ costs: { searches: 1 } }), async () => { throw new Error('not that') })
  app.get('/excel', asks({ features: ['excel'] }), async () => 'a sheet')
  app.get('/history', asks({ features: { history_days: request => Number(request.query.days ?? 7) } }), async () => 'history')
  app.post('/login', asks({ rate: 'login', rateKey: byAddress }), async () => 'welcome')
  app.get('/mistaken', asks({ costs: { serches: 1 } }), async () => 'never')
  app.post('/order', asks({ costs: { searches: 1 }, idempotencyKey: request => request.headers['idempotency-key'] }), async request => {
    return { repeated: admissionOf(request).decision.repeated }
  })
  app.get('/health', asks(false), async () => 'well')
  app.get('/other', async request => ({ admitted: request.quotum !== null }))
  app.post('/chat', asks({ costs: { tokens: 600 }, reserveMs: 60_000 }), async (request, reply) => {
    const reservation = keep(request.quotum.reservation)
    if (request.body === 'refuse') throw new Error('not that')
    const { held } = await tokensOf(quota)
    return reply.type('text/plain').send(Readable.from((async function * () {
      yield `${held} held, `
      if (request.body === 'break') throw new Error('the model broke')
      if (request.body === 'stream') await new Promise(() => {})
      if (request.body !== 'forget') await reservation.commit({ tokens: 120 })
      yield 'done'
    })()))
  })
  return { app, quota, ask: (url, init = {}) => app.inject({ url, headers: ANA, ...init }) }
}

const chat = (ask, payload) => ask('/chat', { method: 'POST', payload, headers: { ...ANA, 'content-type': 'text/plain' } })

test('the limit passes, and the first denial says everything', async t => {
  const { ask } = await started(t)
  const first = await ask('/search')
  assert.deepEqual(first.json(), { for: 'ana', left: 2 })
  assert.equal(first.headers['ratelimit-policy'], '"api/60s";q=5;w=60, "searches/day";q=3;qu="searches"')
  assert.equal(first.headers.ratelimit, '"api/60s";r=4;t=12, "searches/day";r=2;t=43200')
  await ask('/search')
  assert.deepEqual((await ask('/search')).json(), { for: 'ana', left: 0 })
  const denied = await ask('/search')
  assert.deepEqual([denied.statusCode, denied.headers['retry-after']], [429, '43200'])
  assert.equal(denied.headers['content-type'], 'application/problem+json')
  assert.match(denied.headers.ratelimit, /"searches\/day";r=0;t=43200$/)
  assert.deepEqual([denied.json().reason, denied.json().upgrade_to], ['quota_exhausted', 'pro'])
})

test('of a burst at the edge exactly the limit passes', async t => {
  const { ask } = await started(t)
  const statuses = await Promise.all(Array.from({ length: 20 }, async () => (await ask('/order', { method: 'POST' })).statusCode))
  assert.deepEqual(statuses.sort(), [...Array(3).fill(200), ...Array(17).fill(429)])
})

test('nobody is let in who is not known', async t => {
  const { ask } = await started(t)
  const without = await ask('/search', { headers: {} })
  assert.deepEqual([without.statusCode, without.headers['www-authenticate']], [401, 'Bearer'])
  const guessed = await ask('/search', { headers: { 'x-api-key': 'guessed' } })
  assert.deepEqual([guessed.statusCode, guessed.headers['www-authenticate']], [401, 'Bearer error="invalid_token"'])
})

test('a feature, and as much of it as is asked for, is required', async t => {
  const { ask } = await started(t)
  const denied = await ask('/excel')
  assert.deepEqual([denied.statusCode, denied.json().upgrade_to], [403, 'pro'])
  assert.equal((await ask('/history?days=30')).statusCode, 200)
  assert.deepEqual((await ask('/history?days=90')).json().reason, 'feature_value_exceeded')
})

test('logins are limited by what the trusted proxy saw', async t => {
  const { ask } = await started(t)
  const statuses = []
  for (const line of ['203.0.113.7', '1.2.3.4, 203.0.113.7', '5.6.7.8, 203.0.113.7', '203.0.113.8']) {
    statuses.push((await ask('/login', { method: 'POST', headers: { 'x-forwarded-for': line } })).statusCode)
  }
  assert.deepEqual(statuses, [200, 200, 429, 200])
})

test('every rule of a route tells of its own limits, whatever the status', async t => {
  const { ask } = await started(t)
  assert.deepEqual(limitsOf(await ask('/both')), ['"api/60s"', '"searches/day"'])
  const failed = await ask('/failing')
  assert.deepEqual([failed.statusCode, limitsOf(failed)], [500, ['"searches/day"']])
})

test('the default is asked for all routes but the exempt, before what they ask themselves', async t => {
  const { ask } = await started(t, { default: { rate: 'api' } })
  for (const status of [200, 200, 200, 200]) assert.equal((await ask('/other')).statusCode, status)
  assert.deepEqual(limitsOf(await ask('/excel')), ['"api/60s"'])
  for (const [path, status] of [['/other', 429], ['/excel', 429], ['/health', 200], ['/nowhere', 404]]) {
    assert.equal((await ask(path)).statusCode, status, path)
  }
})

test('nothing is asked for a route that asks nothing', async t => {
  const { ask } = await started(t)
  assert.deepEqual((await ask('/other', { headers: {} })).json(), { admitted: false })
})

test('plugins of the app are asked for too', async t => {
  const { app, ask } = await started(t)
  app.register(async inner => { inner.get('/inner', asks({ features: ['excel'] }), async () => 'a sheet') })
  assert.equal((await ask('/inner')).statusCode, 403)
})

test('it is asked in the hook that is chosen', async t => {
  for (const hook of ['onRequest', 'preParsing', 'preValidation', 'preHandler']) {
    const quota = await engine(t)
    const app = Fastify()
    t.after(() => app.close())
    app.decorateRequest('user', null)
    app.addHook('onRequest', async request => { request.user = request.headers['x-user'] })
    await app.register(fastifyQuotas, { quota, hook, subject: request => request.user })
    app.post('/search', asks({ costs: { searches: request => hook === 'preHandler' ? request.body.cost : 3 } }), async () => 'found')
    const ask = () => app.inject({ method: 'POST', url: '/search', headers: { 'x-user': 'cy' }, payload: { cost: 3 } })
    assert.deepEqual([(await ask()).statusCode, (await ask()).statusCode], [200, 429], hook)
  }
})

test('an idempotency key that is taken from a header is charged once', async t => {
  const { ask } = await started(t)
  const order = () => ask('/order', { method: 'POST', headers: { ...ANA, 'idempotency-key': 'order-7' } })
  assert.deepEqual([(await order()).json(), (await order()).json()], [{ repeated: false }, { repeated: true }])
})

test('what is reserved is held while the answer streams, and then committed', async t => {
  const { ask, quota } = await started(t)
  const response = await chat(ask, 'hello')
  assert.deepEqual([response.body, response.headers.ratelimit], ['600 held, done', '"tokens/day";r=400;t=43200'])
  assert.equal(await usedOnceNothingIsHeld(quota), 120)
})

test('what is not committed is given back', async t => {
  const { ask, quota } = await started(t)
  assert.equal((await chat(ask, 'forget')).body, '600 held, done')
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
  assert.equal((await chat(ask, 'refuse')).statusCode, 500)
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
  await assert.rejects(chat(ask, 'break'))
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
})

test('a client that goes away in the middle of a stream leaves nothing held', async t => {
  const { app, quota } = await started(t)
  const at = await app.listen({ port: 0, host: '127.0.0.1' })
  const headers = { ...ANA, 'content-type': 'text/plain' }
  assert.equal(await firstPart(`${at}/chat`, { method: 'POST', headers, body: 'stream' }), '600 held, ')
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
})

test('a store that fails is 503 and never 429', async t => {
  const { ask } = await started(t, {}, await brokenEngine(t))
  for (const path of ['/search', '/excel']) {
    const response = await ask(path)
    assert.deepEqual([response.statusCode, response.headers['retry-after']], [503, '5'])
    assert.doesNotMatch(response.body, /db-7/)
  }
})

test('a mistake of the backend is 500 that says nothing, and is told to the operator', async t => {
  const { ask } = await started(t)
  const warnings = await warningsOf(async () => {
    const response = await ask('/mistaken')
    assert.deepEqual([response.statusCode, /searches/.test(response.body)], [500, false])
  })
  assert.match(warnings.join(), /serches/)
})

test('a mistake in a rule or an option, and an engine that cannot be opened, keep the server from starting', async t => {
  const quota = await engine(t)
  const made = async (options, rules) => {
    const app = Fastify()
    t.after(() => app.close())
    app.register(fastifyQuotas, { quota, ...options })
    app.register(async inner => { inner.get('/', asks(rules), async () => 'never') })
    await app.ready()
  }
  await assert.rejects(made({}, { cost: { searches: 1 } }), { code: 'invalid_argument', argument: 'rule' })
  await assert.rejects(made({ hooks: 'onRequest' }), { code: 'invalid_argument', argument: 'options' })
  await assert.rejects(made({ hook: 'onSend' }), { code: 'invalid_argument', argument: 'hook' })
  await assert.rejects(made({ allowList: '127.0.0.1' }), { code: 'invalid_argument', argument: 'allowList' })
  await assert.rejects(made({ quota: Quota.open('memory:') }), { code: 'no_plans' })
})

test('what is skipped and allowed passes, and a denial is answered as the backend likes', async t => {
  const { ask } = await started(t, {
    skip: request => request.headers['x-internal'] === 'yes',
    allowList: ['203.0.113.9'],
    statuses: { feature_not_in_plan: 402 },
    errorResponseBuilder: (request, answer) => Object.assign(new Error(`no: ${answer.decision.reason}`), { code: 'DENIED' }),
  })
  assert.equal((await ask('/excel', { headers: { 'x-internal': 'yes' } })).statusCode, 200)
  assert.equal((await ask('/excel', { headers: { 'x-forwarded-for': '203.0.113.9' } })).statusCode, 200)
  const denied = await ask('/excel')
  assert.deepEqual([denied.statusCode, denied.json().message, denied.json().code], [402, 'no: feature_not_in_plan', 'DENIED'])
})
