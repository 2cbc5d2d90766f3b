// Quotas for Express: real apps, by HTTP.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'

import express from 'express'
import { Quota, throwIfDenied } from 'quotum'
import { admissionOf, byAddress, expressQuotas } from 'quotum/express'

import {
  ANA, brokenEngine, engine, firstPart, keep, limitsOf, PLANS, serve, tokensOf, usedOnceNothingIsHeld, verifier, warningsOf,
} from './backend.mjs'

function appOf (quota, options = {}) {
  const quotas = expressQuotas(quota, { trustedHops: 1, ...options })
  const app = express()
  app.use(express.text())
  app.get('/search', quotas.admit({ rate: 'api', costs: { searches: 1 } }), (request, response) => {
    const { subject, quotas } = request.quotum.decision
    response.json({ for: subject, left: quotas[0].remaining })
  })
  app.get('/both', quotas.rate('api'), quotas.consume({ searches: 1 }), (request, response) => { response.send('found') })
  app.get('/failing', quotas.consume({ searches: 1 }), () => { throw new Error('not that') })
  app.get('/excel', quotas.require('excel'), (request, response) => { response.send('a sheet') })
  app.get('/history', quotas.require('history_days', request => Number(request.query.days ?? 7)), (request, response) => { response.send('history') })
  app.post('/login', quotas.rate('login', byAddress), (request, response) => { response.send('welcome') })
  app.get('/mistaken', quotas.consume({ serches: 1 }), (request, response) => { response.send('never') })
  app.post('/order', quotas.consume({ searches: 1 }, { idempotencyKey: request => request.headers['idempotency-key'] }), (request, response) => {
    response.json({ repeated: admissionOf(request).decision.repeated })
  })
  app.post('/chat', quotas.reserve({ tokens: 600 }, { ttlMs: 60_000 }), async (request, response) => {
    const reservation = keep(request.quotum.reservation)
    if (request.body === 'refuse') throw new Error('not that')
    response.write(`${(await tokensOf(await quota)).held} held, `)
    if (request.body === 'stream') return
    if (request.body === 'break') return response.destroy()
    if (request.body === 'close') response.once('close', () => { void reservation.commit({ tokens: 50 }) })
    else if (request.body !== 'forget') await reservation.commit({ tokens: 120 })
    if (request.body !== 'close') response.end('done')
  })
  app.get('/plans', quotas.plans())
  app.get('/me', quotas.usage())
  app.use((error, request, response, next) => { response.status(500).send(`the app: ${error.message}`) })
  return app
}

const started = async (t, options, quota) => {
  quota ??= await engine(t)
  const at = await serve(t, appOf(quota, options))
  return { quota, ask: (path, init = {}) => fetch(at + path, { headers: ANA, ...init }), at }
}

test('the limit passes, and the first denial says everything', async t => {
  const { ask } = await started(t)
  const first = await ask('/search')
  assert.deepEqual(await first.json(), { for: 'ana', left: 2 })
  assert.equal(first.headers.get('ratelimit-policy'), '"api/60s";q=5;w=60, "searches/day";q=3;qu="searches"')
  assert.equal(first.headers.get('ratelimit'), '"api/60s";r=4;t=12, "searches/day";r=2;t=43200')
  await ask('/search')
  assert.deepEqual(await (await ask('/search')).json(), { for: 'ana', left: 0 })
  const denied = await ask('/search')
  assert.equal(denied.status, 429)
  assert.equal(denied.headers.get('content-type'), 'application/problem+json')
  assert.equal(denied.headers.get('retry-after'), '43200')
  assert.match(denied.headers.get('ratelimit'), /"searches\/day";r=0;t=43200$/)
  assert.match(denied.headers.get('ratelimit-policy'), /"searches\/day";q=3;qu="searches"$/)
  const { reason, upgrade_to: upgradeTo, 'violated-policies': violated } = await denied.json()
  assert.deepEqual([reason, upgradeTo, violated], ['quota_exhausted', 'pro', ['searches/day']])
})

test('of a burst at the edge exactly the limit passes', async t => {
  const { ask } = await started(t)
  const statuses = await Promise.all(Array.from({ length: 20 }, async () => (await ask('/order', { method: 'POST' })).status))
  assert.deepEqual(statuses.sort(), [...Array(3).fill(200), ...Array(17).fill(429)])
})

test('nobody is let in who is not known', async t => {
  const { ask } = await started(t)
  for (const path of ['/search', '/me']) {
    const without = await ask(path, { headers: {} })
    assert.deepEqual([without.status, without.headers.get('www-authenticate')], [401, 'Bearer'])
    const guessed = await ask(path, { headers: { 'x-api-key': 'guessed' } })
    assert.deepEqual([guessed.status, guessed.headers.get('www-authenticate')], [401, 'Bearer error="invalid_token"'])
  }
})

test('a feature, and as much of it as is asked for, is required', async t => {
  const { ask } = await started(t)
  const denied = await ask('/excel')
  assert.deepEqual([denied.status, (await denied.json()).upgrade_to], [403, 'pro'])
  assert.equal((await ask('/history?days=30')).status, 200)
  const exceeded = await ask('/history?days=90')
  assert.deepEqual([exceeded.status, (await exceeded.json()).reason], [403, 'feature_value_exceeded'])
})

test('logins are limited by what the trusted proxy saw', async t => {
  const { ask } = await started(t)
  const login = line => ask('/login', { method: 'POST', headers: { 'x-forwarded-for': line } })
  const statuses = []
  for (const line of ['203.0.113.7', '1.2.3.4, 203.0.113.7', '5.6.7.8, 203.0.113.7', '203.0.113.8']) statuses.push((await login(line)).status)
  assert.deepEqual(statuses, [200, 200, 429, 200])
  assert.equal((await login('203.0.113.7')).headers.get('retry-after'), '30')
})

test('every rule of a route tells of its own limits, whatever the status', async t => {
  const { ask } = await started(t)
  assert.deepEqual(limitsOf(await ask('/both')), ['"api/60s"', '"searches/day"'])
  const failed = await ask('/failing')
  assert.deepEqual([failed.status, await failed.text(), limitsOf(failed)], [500, 'the app: not that', ['"searches/day"']])
})

test('a denial keeps the legacy fields of its own', async t => {
  const { ask } = await started(t, { fields: 'both' })
  for (let left = 3; left > 0; left--) await ask('/both')
  const denied = await ask('/both')
  assert.deepEqual([denied.status, denied.headers.get('x-ratelimit-limit'), denied.headers.get('x-ratelimit-remaining')], [429, '3', '0'])
  assert.deepEqual(limitsOf(denied), ['"api/60s"', '"searches/day"'])
})

test('an idempotency key that is taken from a header is charged once', async t => {
  const { ask, quota } = await started(t)
  const order = (key, path = '/order') => ask(path, { method: 'POST', headers: { ...ANA, 'idempotency-key': key } })
  assert.deepEqual(await (await order('order-7')).json(), { repeated: false })
  assert.deepEqual(await (await order('order-7')).json(), { repeated: true })
  assert.equal((await quota.usage('ana')).quotas.find(state => state.metric === 'searches').used, 1)
  assert.equal((await order('x'.repeat(300))).status, 400)
})

test('what is reserved is held while the answer streams, and then committed', async t => {
  const { ask, quota } = await started(t)
  const response = await ask('/chat', { method: 'POST', body: 'hello' })
  assert.equal(response.headers.get('ratelimit'), '"tokens/day";r=400;t=43200')
  assert.equal(await response.text(), '600 held, done')
  assert.equal(await usedOnceNothingIsHeld(quota), 120)
})

test('what is not committed is given back', async t => {
  const { ask, quota } = await started(t)
  assert.equal(await (await ask('/chat', { method: 'POST', body: 'forget' })).text(), '600 held, done')
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
  assert.equal((await ask('/chat', { method: 'POST', body: 'refuse' })).status, 500)
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
  await assert.rejects(async () => await (await ask('/chat', { method: 'POST', body: 'break' })).text())
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
})

test('a client that goes away leaves nothing held, and what was used until then can be committed', async t => {
  const { at, quota } = await started(t)
  const headers = { ...ANA, 'content-type': 'text/plain' }
  assert.equal(await firstPart(`${at}/chat`, { method: 'POST', headers, body: 'stream' }), '600 held, ')
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
  assert.equal(await firstPart(`${at}/chat`, { method: 'POST', headers, body: 'close' }), '600 held, ')
  assert.equal(await usedOnceNothingIsHeld(quota), 50)
})

test('a client that has gone before it was let in leaves nothing held', async t => {
  const quota = await engine(t)
  let gone
  const left = new Promise(resolve => { gone = resolve })
  const subject = async request => {
    request.socket.destroy()
    await new Promise(resolve => request.socket.once('close', resolve))
    return 'ana'
  }
  const quotas = expressQuotas(quota, { subject })
  const handler = quotas.reserve({ tokens: 600 }, { ttlMs: 60_000 })
  const at = await serve(t, (request, response) => { handler(request, response, () => gone(keep(admissionOf(request).reservation))) })
  await assert.rejects(fetch(at))
  assert.equal((await left).allowed, true)
  assert.equal(await usedOnceNothingIsHeld(quota), 0)
})

test('a store that fails is 503 and never 429', async t => {
  const { ask } = await started(t, {}, await brokenEngine(t))
  for (const path of ['/search', '/excel', '/me']) {
    const response = await ask(path)
    assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '5'])
    assert.doesNotMatch(await response.text(), /db-7/)
  }
})

test('a mistake of the backend is 500 that says nothing, and is told to the operator', async t => {
  const quota = await engine(t)
  const { ask } = await started(t, {}, quota)
  const warnings = await warningsOf(async () => {
    const response = await ask('/mistaken')
    assert.deepEqual([response.status, /searches/.test(await response.text())], [500, false])
  })
  assert.match(warnings.join(), /serches/)
  const told = []
  const other = await started(t, { onError: (error, request) => told.push([error.code, request.url]) }, quota)
  await other.ask('/mistaken')
  assert.deepEqual(told, [['unknown_name', '/mistaken']])
})

test('a mistake in a rule or an option is told when it is made', async t => {
  const quota = await engine(t)
  const quotas = expressQuotas(quota)
  for (const [make, argument] of [
    [() => quotas.admit({ cost: { searches: 1 } }), 'rule'],
    [() => quotas.admit({ rateKey: byAddress }), 'rate'],
    [() => quotas.reserve({ tokens: 1 }, { ttlMs: -1 }), 'ttlMs'],
    [() => expressQuotas(quota, { trustHops: 1 }), 'options'],
    [() => expressQuotas(quota, { statuses: { quota_exhausted: 200 } }), 'status'],
    [() => expressQuotas(undefined), 'quota'],
  ]) assert.throws(make, { code: 'invalid_argument', argument })
})

test('plans and account pages are ready', async t => {
  const { ask, quota } = await started(t)
  const { plans, total } = await (await ask('/plans', { headers: {} })).json()
  assert.deepEqual([plans.map(plan => plan.id), total], [['free', 'pro'], 2])
  await quota.subscribe('ana', 'pro')
  await ask('/search')
  const me = await (await ask('/me')).json()
  assert.deepEqual([me.plan, me.features], ['pro', { excel: true, history_days: 365 }])
  assert.deepEqual(me.quotas.map(state => [state.metric, state.used]), [['searches', 1], ['tokens', 0]])
})

test('the backend may say who asks, what is skipped, and answer as it likes', async t => {
  const { ask } = await started(t, {
    subject: async request => request.headers['x-user'],
    skip: request => request.headers['x-internal'] === 'yes',
    statuses: { quota_exhausted: 402 },
    handler: (request, response, next, answer) => { response.send(`no: ${answer.decision.reason}`) },
  })
  const order = headers => ask('/both', { headers })
  for (let left = 3; left > 0; left--) assert.equal((await order({ 'x-user': 'cy' })).status, 200)
  const denied = await order({ 'x-user': 'cy' })
  assert.deepEqual([denied.status, await denied.text(), denied.headers.get('retry-after')], [402, 'no: quota_exhausted', '43200'])
  assert.deepEqual([(await order({})).status, await (await order({})).text()], [401, 'no: unauthenticated'])
  const skipped = await order({ 'x-internal': 'yes' })
  assert.deepEqual([skipped.status, limitsOf(skipped)], [200, []])
})

test('errors of the backend go to its own error handler', async t => {
  const { ask } = await started(t, { subject: () => 42 })
  assert.match(await (await ask('/search')).text(), /the app: the option `subject` found a number/)
  const other = await started(t, { handler: () => { throw new Error('no answer') } })
  assert.equal(await (await other.ask('/excel')).text(), 'the app: no answer')
})

test('the engine may still be opening', async t => {
  const quota = Quota.open('memory:', { plans: PLANS, verifier })
  t.after(async () => { await (await quota).close() })
  const { ask } = await started(t, {}, quota)
  assert.equal((await ask('/search')).status, 200)
})

test('a closed engine lets nobody in', async t => {
  const quota = await Quota.open('memory:', { plans: PLANS, verifier })
  await quota.close()
  const { ask } = await started(t, { onError: () => {} }, quota)
  assert.equal((await ask('/search')).status, 503)
})

test('it can be required', () => {
  const required = createRequire(import.meta.url)('quotum/express')
  assert.equal(required.expressQuotas, expressQuotas)
})

test('what an endpoint asks itself is answered as a denial before it would have been', async t => {
  const quota = await engine(t)
  const quotas = expressQuotas(quota, { statuses: { never_fits: 402 }, onError: () => {} })
  const app = express()
  app.get('/denied', async () => { throwIfDenied(await quota.consume('ana', { searches: 99 })) })
  app.get('/mistaken', async () => { await quota.consume('ana', { serches: 1 }) })
  app.get('/failing', () => { throw new Error('not that') })
  app.use(quotas.errors())
  app.use((error, request, response, next) => { response.status(500).send(`the app: ${error.message}`) })
  const at = await serve(t, app)
  const denied = await fetch(`${at}/denied`)
  assert.deepEqual([denied.status, denied.headers.get('content-type'), (await denied.json()).reason], [402, 'application/problem+json', 'never_fits'])
  assert.deepEqual([(await fetch(`${at}/mistaken`)).status, await (await fetch(`${at}/failing`)).text()], [500, 'the app: not that'])
})

test('a cost function that returns nothing lets nobody pass', async t => {
  const quotas = expressQuotas(await engine(t), { onError: async () => { throw new Error('a listener\'s own') } })
  const app = express()
  for (const [path, costs] of [['/nothing', () => {}], ['/none', () => ({})], ['/map', () => new Map([['searches', 1]])]]) {
    app.get(path, quotas.admit({ rate: 'api', costs }), (request, response) => { response.send('free') })
  }
  const at = await serve(t, app)
  for (const path of ['/nothing', '/none', '/map']) assert.equal((await fetch(at + path, { headers: ANA })).status, 500, path)
})

test('a response that somebody else has sent meanwhile leaves no hold', async t => {
  const quota = await engine(t, { verifier: async token => { await setTimeout(60); return verifier(token) } })
  const quotas = expressQuotas(quota)
  const app = express()
  app.use((request, response, next) => { globalThis.setTimeout(() => response.status(503).end(), 20); next() })
  let served = 0
  app.get('/', quotas.reserve({ tokens: 600 }, { ttlMs: 600_000 }), () => { served++ })
  const at = await serve(t, app)
  assert.equal((await fetch(at, { headers: ANA })).status, 503)
  await setTimeout(150)
  assert.deepEqual([(await tokensOf(quota)).held, served], [0, 0])
})

test('two rules that set units aside for one request are a mistake that is told', async t => {
  const quota = await engine(t)
  const quotas = expressQuotas(quota)
  const app = express()
  app.get('/', quotas.reserve({ searches: 1 }, { ttlMs: 60_000 }), quotas.reserve({ tokens: 5 }, { ttlMs: 60_000 }), (request, response) => { response.send('served') })
  app.use((error, request, response, next) => { response.status(500).send(error.message) })
  const at = await serve(t, app)
  assert.match(await (await fetch(at, { headers: ANA })).text(), /put the costs of both into one rule/)
  for (let wait = 0; (await tokensOf(quota)).held > 0 && wait < 100; wait++) await setTimeout(10)
  assert.equal((await tokensOf(quota)).held, 0)
})

test('an engine that cannot be opened is no crash, and lets nobody pass', async t => {
  const quotas = expressQuotas(Quota.open('memory:', { plans: 'nowhere.toml' }), { onError: () => {} })
  await setTimeout(50)
  const app = express()
  app.get('/', quotas.consume({ searches: 1 }), (request, response) => { response.send('free') })
  assert.equal((await fetch(await serve(t, app), { headers: ANA })).status, 500)
})
