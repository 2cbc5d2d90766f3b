// What the modules for web frameworks have in common, without any of them.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

import { Quota } from 'quotum'
import { expressQuotas } from 'quotum/express'

import { brokenEngine, engine, PLANS, verifier } from './backend.mjs'

const require = createRequire(import.meta.url)
const dist = dirname(require.resolve('quotum'))
// They are nobody's to import.
const { admissionOf, admit, Gate, merged } = require(join(dist, 'gate.js'))
const { Asking, byAddress, Verbs } = require(join(dist, 'rule.js'))

/** A request is its headers, its peer, and whatever else. */
const gateOf = (quota, options = {}) => new Gate(quota, options, ({ headers = {}, peer }) => ({ headers, peer }))
const ana = more => ({ headers: { authorization: 'Bearer key-of-ana' }, ...more })
const by = token => ({ headers: { 'x-api-key': token } })

const usedOf = async (quota, subject = 'ana') =>
  Object.fromEntries((await quota.usage(subject)).quotas.map(({ metric, used, held }) => [metric, [used, held]]))

test('everything is asked at once, and charged or not as one', async t => {
  const quota = await engine(t)
  const gate = gateOf(quota)
  const denied = await gate.ask(ana(), new Asking({ features: ['excel'], costs: { searches: 1 } }))
  assert.deepEqual([denied.admission, denied.answer.status, denied.answer.decision.reason], [null, 403, 'feature_not_in_plan'])
  assert.deepEqual((await usedOf(quota)).searches, [0, 0])
  const { admission, answer, fields } = await gate.ask(ana(), new Asking({ rate: 'api', features: { history_days: 7 }, costs: { searches: 1 } }))
  assert.deepEqual([answer, admission.decision.subject, admission.reservation], [null, 'ana', null])
  assert.deepEqual(fields.map(([name]) => name), ['ratelimit-policy', 'ratelimit'])
  assert.deepEqual((await usedOf(quota)).searches, [1, 0])
})

test('a reservation that is denied holds nothing', async t => {
  const quota = await engine(t)
  const gate = gateOf(quota)
  const reserve = more => new Asking({ costs: { tokens: 600 }, reserveMs: 60_000, ...more })
  for (const [request, rule, status] of [
    [by('guessed'), reserve(), 401],
    [{}, reserve(), 401],
    [ana(), reserve({ features: ['excel'] }), 403],
    [ana(), reserve({ costs: { tokens: 1_001 } }), 429],
  ]) assert.equal((await gate.ask(request, rule)).answer.status, status)
  assert.deepEqual((await usedOf(quota)).tokens, [0, 0])
  const { admission } = await gate.ask(ana(), reserve({ rate: 'api' }))
  assert.deepEqual((await usedOf(quota)).tokens, [0, 600])
  await admission.reservation.commit({ tokens: 120 })
  assert.deepEqual((await usedOf(quota)).tokens, [120, 0])
})

test('who asks is known by the backend or by a token, and otherwise by nobody', async t => {
  const quota = await engine(t)
  const rule = new Asking({ costs: { searches: 1 } })
  assert.equal((await gateOf(quota).ask(by('key-of-ana'), rule)).admission.decision.subject, 'ana')
  const reasons = []
  for (const [subject, request] of [[undefined, {}], [undefined, by('guessed')], [() => null], [async () => undefined]]) {
    const { answer } = await gateOf(quota, subject === undefined ? {} : { subject }).ask(request ?? ana(), rule)
    reasons.push([answer.status, answer.decision.reason])
  }
  assert.deepEqual(reasons, Array(4).fill([401, 'unauthenticated']))
  const { admission } = await gateOf(quota, { subject: async request => request.user }).ask({ user: 'cy' }, rule)
  assert.equal(admission.decision.subject, 'cy')
})

test('a rate for a key alone does not ask who asks', async t => {
  const gate = gateOf(await engine(t), { subject: () => assert.fail('it was asked') })
  const { admission } = await gate.ask({}, new Asking({ rate: 'login', rateKey: 'ana@example.com' }))
  assert.equal(admission.decision.subject, null)
  for (const rule of [{ rate: 'api' }, { costs: { searches: 1 } }, { rate: 'api', rateKey: 'x', costs: { searches: 1 } }]) {
    assert.equal(new Asking(rule).isByAnyone, false)
  }
})

test('each part of a rule is a value, or found for each request', async t => {
  const quota = await engine(t)
  const gate = gateOf(quota)
  const rule = new Asking({
    costs: { searches: async request => request.cost, tokens: 5 },
    features: [['history_days', request => request.days]],
    rate: 'login',
    rateKey: (request, client) => `${request.user} at ${client.address.ip}`,
    rateCost: request => request.cost,
    idempotencyKey: request => request.key,
  })
  const asked = await rule.find(ana({ cost: 2, days: 7, user: 'ana', key: ['a', 'b'] }), { address: { ip: '203.0.113.7' } })
  assert.deepEqual(asked, {
    costs: { searches: 2, tokens: 5 },
    rate: 'login',
    rateKey: 'ana at 203.0.113.7',
    rateCost: 2,
    features: [['history_days', 7]],
    idempotencyKey: 'a, b',
  })
  assert.equal((await gate.ask(ana({ cost: 2, days: 7 }), rule)).answer, null)
  assert.deepEqual(await usedOf(quota), { searches: [2, 0], tokens: [5, 0] })
  assert.equal((await gate.ask(ana({ cost: 1, days: 90, user: 'bo' }), rule)).answer.status, 403)
  const whole = new Asking({ costs: async request => ({ searches: request.cost }) })
  assert.equal((await gate.ask(ana({ cost: 1 }), whole)).answer, null)
  assert.deepEqual((await usedOf(quota)).searches, [3, 0])
})

test('features are named in every way that the engine takes', async () => {
  const asked = async features => (await new Asking({ features }).find({}, {})).features
  const expected = ['excel', ['history_days', 7]]
  assert.deepEqual(await asked(['excel', ['history_days', 7]]), expected)
  assert.deepEqual(await asked({ excel: undefined, history_days: () => 7 }), expected)
  assert.throws(() => new Asking({ features: 'excel' }), { code: 'invalid_argument', argument: 'features' })
})

test('verbs say what they ask for', () => {
  class Said extends Verbs {
    admit (rule) { return rule }
  }
  const said = new Said()
  assert.deepEqual(said.consume({ searches: 1 }, { idempotencyKey: 'k' }), { costs: { searches: 1 }, idempotencyKey: 'k' })
  assert.deepEqual([said.require('excel'), said.require('days', 7)], [{ features: ['excel'] }, { features: [['days', 7]] }])
  assert.deepEqual([said.rate('api'), said.rate('login', byAddress, 2)], [{ rate: 'api' }, { rate: 'login', rateKey: byAddress, rateCost: 2 }])
  assert.deepEqual(said.reserve({ tokens: 1 }, { ttlMs: 5, rate: 'api' }), { rate: 'api', costs: { tokens: 1 }, reserveMs: 5 })
})

test('an address is that which the outermost trusted proxy saw', async t => {
  const quota = await engine(t)
  for (const [trustedHops, peer, forwarded, ip] of [
    [0, '198.51.100.1', '1.2.3.4', '198.51.100.1'],
    [1, '10.0.0.1', '1.2.3.4, 203.0.113.7', '203.0.113.7'],
    [1, undefined, '203.0.113.7', '203.0.113.7'],
    [0, undefined, undefined, '0.0.0.0'],
    [0, 'a socket', undefined, '0.0.0.0'],
    [0, '2001:db8::1', undefined, '2001:db8::1'],
    [0, '::ffff:203.0.113.7', undefined, '203.0.113.7'],
  ]) {
    const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }
    assert.deepEqual(gateOf(quota, { trustedHops }).address({ headers, peer }), { ip })
  }
  // Whoever has a whole network is one caller.
  const gate = gateOf(quota)
  const login = new Asking({ rate: 'login', rateKey: byAddress })
  const statuses = []
  for (const peer of ['2001:db8::1', '2001:db8::2', '2001:db8::3', '2001:db8:0:1::1']) statuses.push((await gate.ask({ peer }, login)).answer?.status)
  assert.deepEqual(statuses, [undefined, undefined, 429, undefined])
})

test('what is a client\'s doing is not told as a mistake', async t => {
  const told = []
  const onError = (error, request) => told.push([error.code, request.name])
  const quota = await engine(t)
  const unverified = await Quota.open('memory:', { plans: PLANS, verifier: () => { throw new Error('ldap-7 is down') } })
  t.after(() => unverified.close())
  const subject = request => request.user ?? 'ana'
  const order = cost => new Asking({ costs: { searches: cost }, idempotencyKey: 'order-7' })
  await gateOf(quota, { subject }).ask({}, order(1))
  for (const [gate, request, rule, status, code] of [
    [gateOf(quota, { subject, onError }), {}, order(2), 422],
    [gateOf(quota, { subject, onError }), { user: '' }, new Asking({ costs: { searches: 1 } }), 400],
    [gateOf(quota, { subject, onError }), {}, new Asking({ costs: { searches: 9 } }), 429],
    [gateOf(await brokenEngine(t), { subject, onError }), {}, new Asking({ costs: { searches: 1 } }), 503],
    [gateOf(quota, { subject, onError }), { name: 'typo' }, new Asking({ costs: { serches: 1 } }), 500, 'unknown_name'],
    [gateOf(quota, { subject, onError }), { name: 'NaN' }, new Asking({ costs: { searches: () => NaN } }), 500, 'invalid_argument'],
    [gateOf(unverified, { onError }), ana({ name: 'ldap' }), new Asking({ costs: { searches: 1 } }), 503, 'verify_failed'],
  ]) {
    const { answer } = await gate.ask(request, rule)
    assert.equal(answer.status, status)
    assert.equal(answer.contentType, 'application/problem+json')
    assert.doesNotMatch(answer.body, /ldap-7|db-7/)
    assert.deepEqual(told.splice(0), code === undefined ? [] : [[code, request.name]])
    assert.equal((answer.error?.code ?? null) === null, answer.decision !== null)
  }
})

test('errors of the backend are its own', async t => {
  const quota = await engine(t)
  const rule = new Asking({ costs: { searches: () => { throw new RangeError('not so') } } })
  await assert.rejects(gateOf(quota).ask(ana(), rule), RangeError)
  await assert.rejects(gateOf(quota, { subject: () => 42 }).ask({}, rule), /found a number, expected the id of a subject/)
  await assert.rejects(gateOf(quota, { skip: async () => { throw new RangeError('not so') } }).ask({}, rule), RangeError)
})

test('an engine that could not be opened lets nobody in', async () => {
  const opening = Quota.open('sqlite:/nowhere/at/all.db', { plans: PLANS, verifier })
  opening.catch(() => {})
  const { answer } = await gateOf(opening, { onError: () => {} }).ask(ana(), new Asking({ costs: { searches: 1 } }))
  assert.deepEqual([answer.status, /nowhere/.test(answer.body)], [503, false])
})

test('every limit is told of, and of other fields that of the answer', () => {
  assert.equal(merged('ratelimit', '"a";r=1', undefined, null), '"a";r=1')
  assert.equal(merged('ratelimit', '"a";r=1', '"b";r=2', null), '"b";r=2, "a";r=1')
  assert.equal(merged('x-ratelimit-limit', '1', '2', null), '2')
  assert.equal(merged('x-ratelimit-limit', '1', '2', { status: 429 }), '1')
})

test('a reservation is still a request\'s own after another rule that made none', () => {
  const request = {}
  assert.throws(() => admissionOf(request), /nothing was asked/)
  const reservation = { id: 'held' }
  admit(request, { decision: { subject: 'first' }, reservation })
  admit(request, { decision: { subject: 'second' }, reservation: null })
  assert.deepEqual(admissionOf(request), { decision: { subject: 'second' }, reservation })
})

test('every module needs its own framework only', () => {
  const program = `
    const { Module, createRequire } = require('node:module')
    const needed = []
    const load = Module._load
    Module._load = function (name, parent) {
      if (parent?.path === ${JSON.stringify(dist)} && !name.startsWith('.') && !name.startsWith('node:')) needed.push(name)
      return load.apply(this, arguments)
    }
    require(process.argv[1])
    console.log(JSON.stringify(needed.sort()))`
  const needs = name => JSON.parse(execFileSync(process.execPath, ['-e', program, join(dist, name)], { encoding: 'utf8' }))
  assert.deepEqual(Object.fromEntries(['index', 'express', 'fetch', 'hono', 'express-rate-limit', 'fastify-rate-limit', 'fastify', 'nest']
    .map(name => [name, needs(`${name}.js`)])), {
    index: [], express: [], fetch: [], hono: [], 'express-rate-limit': [], 'fastify-rate-limit': [],
    fastify: ['fastify-plugin'], nest: ['@nestjs/common', '@nestjs/core', 'reflect-metadata'],
  })
})

test('they are the same, imported and required', async () => {
  for (const name of ['express', 'fastify', 'fetch', 'hono', 'nest', 'express-rate-limit', 'fastify-rate-limit']) {
    const imported = await import(`quotum/${name}`)
    const required = require(`quotum/${name}`)
    assert.ok(Object.keys(required).length > 0)
    for (const [key, value] of Object.entries(required)) assert.equal(imported[key], value, `${name}: ${key}`)
  }
  assert.equal(typeof expressQuotas, 'function')
})
