// Quotas for handlers of `Request` and `Response`, and for Hono.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import { Hono } from 'hono'
import { admissionOf, byAddress, fetchQuotas } from 'quotum/fetch'
import { honoQuotas } from 'quotum/hono'

import { ANA, brokenEngine, engine, keep, limitsOf, serve, tokensOf, usedOnceNothingIsHeld, warningsOf } from './backend.mjs'

const AT = 'http://backend.example'

/** A stream of a model's, which commits what it has used. */
function answering (quota, reservation, prompt) {
  return ReadableStream.from((async function * () {
    let used = 0
    try {
      yield Buffer.from(`${(await tokensOf(quota)).held} held, `)
      if (prompt === 'break') throw new Error('the model broke')
      used = 120
      yield Buffer.from('done')
    } finally {
      if (prompt === 'commit') await reservation.commit({ tokens: used })
    }
  })())
}

/** The same routes by each: what each asks, and what it then answers. */
function routesOf (quotas, header, query) {
  return {
    'GET /search': [[quotas.admit({ rate: 'api', costs: { searches: 1 } })], ({ decision }) =>
      Response.json({ for: decision.subject, left: decision.quotas[0].remaining })],
    'GET /both': [[quotas.rate('api'), quotas.consume({ searches: 1 })], () => new Response('found')],
    'GET /failing': [[quotas.reserve({ tokens: 600 }, { ttlMs: 60_000 })], ({ reservation }) => {
      keep(reservation)
      throw new Error('not that')
    }],
    'GET /excel': [[quotas.require('excel')], () => new Response('a sheet')],
    'GET /history': [[quotas.require('history_days', request => Number(query(request, 'days') ?? 7))], () => new Response('history')],
    'POST /login': [[quotas.rate('login', byAddress)], () => Response.redirect(`${AT}/`)],
    'GET /mistaken': [[quotas.consume({ serches: 1 })], () => new Response('never')],
    'POST /order': [[quotas.consume({ searches: 1 }, { idempotencyKey: request => header(request, 'idempotency-key') })], ({ decision }) =>
      Response.json({ repeated: decision.repeated })],
    'GET /elsewhere': [[quotas.rate('api')], (admission, request) => fetch(request.headers.get('x-from'))],
    'DELETE /chat': [[quotas.reserve({ tokens: 600 }, { ttlMs: 60_000 })], ({ reservation }) => {
      keep(reservation)
      return new Response(null, { status: 204 })
    }],
    'POST /chat': [[quotas.reserve({ tokens: 600 }, { ttlMs: 60_000 })], async ({ reservation }, request, quota) =>
      new Response(answering(quota, keep(reservation), await request.text()), { headers: { 'set-cookie': 'a=b' } })],
  }
}

function fetchApp (quota, options) {
  const quotas = fetchQuotas(quota, options)
  const header = (request, name) => request.headers.get(name) ?? undefined
  const query = (request, name) => new URL(request.url).searchParams.get(name)
  const routes = { 'GET /plans': quotas.plans(), 'GET /me': quotas.usage() }
  for (const [route, [rules, handler]] of Object.entries(routesOf(quotas, header, query))) {
    const innermost = request => handler(options.skip ? {} : admissionOf(request), request, quota)
    routes[route] = rules.reduceRight((inner, rule) => rule(inner), innermost)
  }
  return async request => await routes[`${request.method} ${new URL(request.url).pathname}`](request)
}

function honoApp (quota, options) {
  const quotas = honoQuotas(quota, options)
  const app = new Hono()
  for (const [route, [rules, handler]] of Object.entries(routesOf(quotas, (c, name) => c.req.header(name), (c, name) => c.req.query(name)))) {
    const [method, path] = route.split(' ')
    app.on(method, path, ...rules, c => handler(c.get('quotum'), c.req.raw, quota))
  }
  app.get('/plans', quotas.plans())
  app.get('/me', quotas.usage())
  app.onError(() => new Response('the app has failed', { status: 500 }))
  return async request => await app.fetch(request)
}

for (const [kind, appOf] of [['Request and Response', fetchApp], ['Hono', honoApp]]) {
  const started = async (t, options = {}, quota) => {
    quota ??= await engine(t)
    const app = appOf(quota, { trustedHops: 1, ...options })
    return { quota, ask: (path, init = {}) => app(new Request(AT + path, { headers: ANA, ...init })) }
  }
  const chat = (ask, body, init = {}) => ask('/chat', { method: 'POST', body, ...init })

  describe(`of ${kind}`, () => {
    test('the limit passes, and the first denial says everything', async t => {
      const { ask } = await started(t)
      const first = await ask('/search')
      assert.deepEqual(await first.json(), { for: 'ana', left: 2 })
      assert.equal(first.headers.get('ratelimit-policy'), '"api/60s";q=5;w=60, "searches/day";q=3;qu="searches"')
      assert.equal(first.headers.get('ratelimit'), '"api/60s";r=4;t=12, "searches/day";r=2;t=43200')
      await ask('/search')
      assert.deepEqual(await (await ask('/search')).json(), { for: 'ana', left: 0 })
      const denied = await ask('/search')
      assert.deepEqual([denied.status, denied.headers.get('retry-after')], [429, '43200'])
      assert.equal(denied.headers.get('content-type'), 'application/problem+json')
      assert.match(denied.headers.get('ratelimit'), /"searches\/day";r=0;t=43200$/)
      const { reason, upgrade_to: upgradeTo } = await denied.json()
      assert.deepEqual([reason, upgradeTo], ['quota_exhausted', 'pro'])
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
      assert.equal((await (await ask('/history?days=90')).json()).reason, 'feature_value_exceeded')
    })

    test('logins are limited by what the trusted proxy saw, and a redirection tells of it too', async t => {
      const { ask } = await started(t)
      const responses = []
      for (const line of ['203.0.113.7', '1.2.3.4, 203.0.113.7', '5.6.7.8, 203.0.113.7', '203.0.113.8']) {
        responses.push(await ask('/login', { method: 'POST', headers: { 'x-forwarded-for': line } }))
      }
      assert.deepEqual(responses.map(response => response.status), [302, 302, 429, 302])
      assert.deepEqual(responses.map(response => limitsOf(response)), Array(4).fill(['"login/60s"']))
    })

    test('every rule of a route tells of its own limits, and a denial too', async t => {
      const { ask } = await started(t, { fields: 'both' })
      for (let left = 3; left > 0; left--) assert.deepEqual(limitsOf(await ask('/both')).sort(), ['"api/60s"', '"searches/day"'])
      const denied = await ask('/both')
      assert.deepEqual([denied.status, limitsOf(denied).sort()], [429, ['"api/60s"', '"searches/day"']])
      assert.equal(denied.headers.get('x-ratelimit-limit'), '3')
    })

    test('the limits of a response that was fetched elsewhere are told of too', async t => {
      const { ask } = await started(t)
      const from = await serve(t, (request, response) => { response.setHeader('ratelimit', '"upstream";r=1').end('found') })
      const response = await ask('/elsewhere', { headers: { ...ANA, 'x-from': from } })
      assert.deepEqual([limitsOf(response), await response.text()], [['"upstream"', '"api/60s"'], 'found'])
    })

    test('an idempotency key that is taken from a header is charged once', async t => {
      const { ask } = await started(t)
      const order = async () => await (await ask('/order', { method: 'POST', headers: { ...ANA, 'idempotency-key': 'order-7' } })).json()
      assert.deepEqual([await order(), await order()], [{ repeated: false }, { repeated: true }])
    })

    test('what is reserved is held while the answer streams, and then committed', async t => {
      const { ask, quota } = await started(t)
      const response = await chat(ask, 'commit')
      assert.deepEqual([response.headers.get('ratelimit'), response.headers.get('set-cookie')], ['"tokens/day";r=400;t=43200', 'a=b'])
      assert.equal(await response.text(), '600 held, done')
      assert.equal(await usedOnceNothingIsHeld(quota), 120)
    })

    test('what is not committed is given back', async t => {
      const { ask, quota } = await started(t)
      assert.equal(await (await chat(ask, 'forget')).text(), '600 held, done')
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      await assert.rejects(async () => await (await chat(ask, 'break')).text(), /the model broke/)
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      assert.equal((await ask('/chat', { method: 'DELETE' })).status, 204)
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      await ask('/failing').catch(error => assert.match(error.message, /not that/))
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
    })

    test('a client that goes away leaves nothing held, and what was used until then can be committed', async t => {
      const { ask, quota } = await started(t)
      const goAway = async prompt => {
        const reader = (await chat(ask, prompt)).body.getReader()
        assert.equal(String(Buffer.from((await reader.read()).value)), '600 held, ')
        await reader.read()
        await reader.cancel()
      }
      await goAway('forget')
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      await goAway('commit')
      assert.equal(await usedOnceNothingIsHeld(quota), 120)
      const leaving = new AbortController()
      await chat(ask, 'forget', { signal: leaving.signal })
      assert.equal((await tokensOf(quota)).held, 600)
      leaving.abort()
      assert.equal(await usedOnceNothingIsHeld(quota), 120)
    })

    test('a store that fails is 503 and never 429', async t => {
      const { ask } = await started(t, {}, await brokenEngine(t))
      for (const path of ['/search', '/me']) {
        const response = await ask(path)
        assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '5'])
        assert.doesNotMatch(await response.text(), /db-7/)
      }
    })

    test('a mistake of the backend is 500 that says nothing, and is told to the operator', async t => {
      const { ask } = await started(t)
      const warnings = await warningsOf(async () => {
        const response = await ask('/mistaken')
        assert.deepEqual([response.status, /searches/.test(await response.text())], [500, false])
      })
      assert.match(warnings.join(), /serches/)
    })

    test('plans and account pages are ready', async t => {
      const { ask } = await started(t)
      const { plans, total } = await (await ask('/plans', { headers: {} })).json()
      assert.deepEqual([plans.map(plan => plan.id), total], [['free', 'pro'], 2])
      await ask('/search')
      const { plan, quotas } = await (await ask('/me')).json()
      assert.deepEqual([plan, quotas.map(state => [state.metric, state.used])], ['free', [['searches', 1], ['tokens', 0]]])
    })

    test('the backend may say who asks, and answer as it likes', async t => {
      const header = (request, name) => kind === 'Hono' ? request.req.header(name) : request.headers.get(name)
      const { ask } = await started(t, {
        subject: async request => header(request, 'x-user'),
        onDenied: (request, answer) => new Response(`no: ${answer.decision.reason}`, { status: 418 }),
      })
      for (let left = 3; left > 0; left--) assert.equal((await ask('/search', { headers: { 'x-user': 'cy' } })).status, 200)
      const denied = await ask('/search', { headers: { 'x-user': 'cy' } })
      assert.deepEqual([denied.status, denied.headers.get('retry-after'), await denied.text()], [418, '43200', 'no: quota_exhausted'])
      assert.equal(await (await ask('/me', { headers: {} })).text(), 'no: unauthenticated')
    })

    test('what is skipped passes without being asked about', async t => {
      const { ask } = await started(t, { skip: () => true })
      const response = await ask('/excel')
      assert.deepEqual([response.status, limitsOf(response)], [200, []])
    })

    test('a mistake in an option is told when it is made', async t => {
      const quota = await engine(t)
      assert.throws(() => appOf(quota, { trustHops: 1 }), { code: 'invalid_argument', argument: 'options' })
    })
  })
}

test('the address of the other end is found by what the server gives besides the request', async t => {
  const quotas = fetchQuotas(await engine(t), { peer: (request, server) => server.requestIP(request) })
  const login = quotas.rate('login', byAddress)(() => new Response('welcome'))
  const ask = async ip => (await login(new Request(AT), { requestIP: () => ip })).status
  assert.deepEqual([await ask('203.0.113.7'), await ask('203.0.113.7'), await ask('203.0.113.7'), await ask('203.0.113.8')], [200, 200, 429, 200])
})

test('a rule by address is refused where no address is ever known', async t => {
  const quota = await engine(t)
  assert.throws(() => fetchQuotas(quota).rate('login', byAddress), { code: 'invalid_argument', argument: 'peer' })
  fetchQuotas(quota, { trustedHops: 1 }).rate('login', byAddress)
})

test('the address of the other end is found where node:http serves Hono', async t => {
  const quotas = honoQuotas(await engine(t))
  const app = new Hono()
  app.post('/login', quotas.rate('login', byAddress), c => c.text('welcome'))
  const ask = async ip => (await app.request('/login', { method: 'POST' }, { incoming: { socket: { remoteAddress: ip } } })).status
  assert.deepEqual([await ask('203.0.113.7'), await ask('203.0.113.7'), await ask('203.0.113.7'), await ask('203.0.113.8')], [200, 200, 429, 200])
})
