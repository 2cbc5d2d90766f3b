// Quotas for Nest: real apps on Express and on Fastify, by HTTP. Decorators are applied as functions, as compilers do.
import 'reflect-metadata'

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import { Body, Catch, Controller, Get, Inject, Injectable, Module, Post, Req, Res } from '@nestjs/common'
import { APP_FILTER, APP_GUARD, NestFactory } from '@nestjs/core'
import { ExpressAdapter } from '@nestjs/platform-express'
import { FastifyAdapter } from '@nestjs/platform-fastify'
import { Quota } from 'quotum'
import {
  Admission, admissionOf, Admit, byAddress, Consume, QuotumException, QuotumGuard, QuotumModule, Rate, Require, Reserve, SkipQuotas,
} from 'quotum/nest'

import {
  ANA, brokenEngine, engine, firstPart, keep, limitsOf, PLANS, tokensOf, usedOnceNothingIsHeld, verifier, warningsOf,
} from './backend.mjs'

/** Decorates a method, the lowest decorator first, and its parameters. */
function decorate (type, name, decorators, ...parameters) {
  parameters.forEach((parameter, index) => parameter(type.prototype, name, index))
  for (const decorator of decorators.toReversed()) decorator(type.prototype, name, Object.getOwnPropertyDescriptor(type.prototype, name))
}

class Searches {
  constructor (quota) { this.quota = quota }
  search ({ decision }) { return { for: decision.subject, left: decision.quotas[0].remaining } }
  both () { return 'found' }
  failing () { throw new Error('not that') }
  excel () { return 'a sheet' }
  history () { return 'history' }
  login () { return 'welcome' }
  mistaken () { return 'never' }
  order (request) { return { repeated: admissionOf(request).decision.repeated } }
  health () { return 'well' }
  other () { return 'other' }
  plans () { return this.quota.plans() }
  async chat ({ reservation }, body, response) {
    keep(reservation)
    if (body.prompt === 'refuse') throw new Error('not that')
    const raw = response.raw ?? response
    response.hijack?.()
    raw.writeHead(200, { 'content-type': 'text/plain' })
    raw.write(`${(await tokensOf(this.quota)).held} held, `)
    if (body.prompt === 'stream') return
    if (body.prompt !== 'forget') await reservation.commit({ tokens: 120 })
    raw.end('done')
  }
}
Inject(Quota)(Searches, undefined, 0)
Controller()(Searches)
decorate(Searches, 'search', [Get('search'), Admit({ rate: 'api', costs: { searches: 1 } })], Admission())
decorate(Searches, 'both', [Get('both'), Rate('api'), Consume({ searches: 1 })])
decorate(Searches, 'failing', [Get('failing'), Consume({ searches: 1 })])
decorate(Searches, 'excel', [Get('excel'), Require('excel')])
decorate(Searches, 'history', [Get('history'), Require('history_days', request => Number(request.query.days ?? 7))])
decorate(Searches, 'login', [Post('login'), Rate('login', byAddress)])
decorate(Searches, 'mistaken', [Get('mistaken'), Consume({ serches: 1 })])
decorate(Searches, 'order', [Post('order'), Consume({ searches: 1 }, { idempotencyKey: request => request.headers['idempotency-key'] })], Req())
decorate(Searches, 'health', [Get('health'), SkipQuotas()])
decorate(Searches, 'other', [Get('other')])
decorate(Searches, 'plans', [Get('plans')])
decorate(Searches, 'chat', [Post('chat'), Reserve({ tokens: 600 }, { ttlMs: 60_000 })], Admission(), Body(), Res())

/** Everything in it asks for a feature, and one handler for a rate too. */
class Sheets {
  sheet () { return 'a sheet' }
}
Require('excel')(Sheets)
Controller('sheets')(Sheets)
decorate(Sheets, 'sheet', [Get(), Rate('api')])

/** Nothing is asked in it. */
class Status {
  status () { return 'up' }
}
SkipQuotas()(Status)
Controller('status')(Status)
decorate(Status, 'status', [Get(), Consume({ searches: 1 })])

class Teapots {
  catch (exception, host) {
    const response = host.switchToHttp().getResponse()
    response.status(418).send(`no: ${exception.answer.decision.reason}`)
  }
}
Catch(QuotumException)(Teapots)
Injectable()(Teapots)

function moduleOf (imported, providers = [{ provide: APP_GUARD, useClass: QuotumGuard }]) {
  class AppModule {}
  Module({ imports: [imported], controllers: [Searches, Sheets, Status], providers })(AppModule)
  return AppModule
}

async function serving (t, adapter, module) {
  const app = await NestFactory.create(module, adapter(), { logger: false, abortOnError: false })
  t.after(() => app.close())
  await app.listen(0, '127.0.0.1')
  const at = await app.getUrl()
  return { at, ask: (path, init = {}) => fetch(at + path, { headers: ANA, ...init }) }
}

for (const [platform, adapter] of [
  ['Express', () => new ExpressAdapter()],
  ['Fastify', () => new FastifyAdapter({ forceCloseConnections: true })],
]) {
  const started = async (t, options = {}, quota, providers) => {
    quota ??= await engine(t)
    const module = moduleOf(QuotumModule.forRoot({ quota, trustedHops: 1, ...options }), providers)
    return { quota, ...await serving(t, adapter, module) }
  }

  const chat = (ask, prompt) =>
    ask('/chat', { method: 'POST', headers: { ...ANA, 'content-type': 'application/json' }, body: JSON.stringify({ prompt }) })

  describe(`on ${platform}`, () => {
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
      assert.deepEqual(statuses.sort(), [...Array(3).fill(201), ...Array(17).fill(429)])
    })

    test('nobody is let in who is not known', async t => {
      const { ask } = await started(t)
      const without = await ask('/search', { headers: {} })
      assert.deepEqual([without.status, without.headers.get('www-authenticate')], [401, 'Bearer'])
      const guessed = await ask('/search', { headers: { 'x-api-key': 'guessed' } })
      assert.deepEqual([guessed.status, guessed.headers.get('www-authenticate')], [401, 'Bearer error="invalid_token"'])
    })

    test('a feature, and as much of it as is asked for, is required', async t => {
      const { ask } = await started(t)
      const denied = await ask('/excel')
      assert.deepEqual([denied.status, (await denied.json()).upgrade_to], [403, 'pro'])
      assert.equal((await ask('/history?days=30')).status, 200)
      assert.equal((await (await ask('/history?days=90')).json()).reason, 'feature_value_exceeded')
    })

    test('logins are limited by what the trusted proxy saw', async t => {
      const { ask } = await started(t)
      const statuses = []
      for (const line of ['203.0.113.7', '1.2.3.4, 203.0.113.7', '5.6.7.8, 203.0.113.7', '203.0.113.8']) {
        statuses.push((await ask('/login', { method: 'POST', headers: { 'x-forwarded-for': line } })).status)
      }
      assert.deepEqual(statuses, [201, 201, 429, 201])
    })

    test('the default, the controller and the handler are asked in this order, and tell of their own limits', async t => {
      const { ask, quota } = await started(t, { default: { rate: 'api' } })
      assert.deepEqual(limitsOf(await ask('/excel')), ['"api/60s"'])
      assert.deepEqual(limitsOf(await ask('/sheets')), ['"api/60s"'])
      await quota.subscribe('ana', 'pro')
      assert.deepEqual(limitsOf(await ask('/sheets')), ['"api/60s"', '"api/60s"'])
      assert.equal((await ask('/other')).status, 200)
      assert.deepEqual([(await ask('/other')).status, (await ask('/health')).status, (await ask('/status')).status], [429, 200, 200])
    })

    test('every decorator of a handler tells of its own limits, whatever the status', async t => {
      const { ask } = await started(t)
      assert.deepEqual(limitsOf(await ask('/both')), ['"api/60s"', '"searches/day"'])
      const failed = await ask('/failing')
      assert.deepEqual([failed.status, limitsOf(failed)], [500, ['"searches/day"']])
    })

    test('an idempotency key that is taken from a header is charged once', async t => {
      const { ask } = await started(t)
      const order = async () => await (await ask('/order', { method: 'POST', headers: { ...ANA, 'idempotency-key': 'order-7' } })).json()
      assert.deepEqual([await order(), await order()], [{ repeated: false }, { repeated: true }])
    })

    test('what is reserved is held while the answer streams, and then committed or given back', async t => {
      const { ask, quota } = await started(t)
      assert.equal(await (await chat(ask, 'forget')).text(), '600 held, done')
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      assert.equal((await chat(ask, 'refuse')).status, 500)
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
      assert.equal(await (await chat(ask, 'hello')).text(), '600 held, done')
      assert.equal(await usedOnceNothingIsHeld(quota), 120)
    })

    test('a client that goes away in the middle of a stream leaves nothing held', async t => {
      const { at, quota } = await started(t)
      const headers = { ...ANA, 'content-type': 'application/json' }
      assert.equal(await firstPart(`${at}/chat`, { method: 'POST', headers, body: '{ "prompt": "stream" }' }), '600 held, ')
      assert.equal(await usedOnceNothingIsHeld(quota), 0)
    })

    test('a store that fails is 503 and never 429', async t => {
      const { ask } = await started(t, {}, await brokenEngine(t))
      const response = await ask('/search')
      assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '5'])
      assert.doesNotMatch(await response.text(), /db-7/)
    })

    test('a mistake of the backend is 500 that says nothing, and is told to the operator', async t => {
      const { ask } = await started(t)
      const warnings = await warningsOf(async () => {
        const response = await ask('/mistaken')
        assert.deepEqual([response.status, /searches/.test(await response.text())], [500, false])
      })
      assert.match(warnings.join(), /serches/)
    })

    test('the backend may say who asks and what is skipped, and catch what is denied', async t => {
      const { ask } = await started(t, {
        subject: request => request.headers['x-user'],
        skip: request => request.headers['x-internal'] === 'yes',
      }, undefined, [{ provide: APP_GUARD, useClass: QuotumGuard }, { provide: APP_FILTER, useClass: Teapots }])
      assert.equal((await ask('/both', { headers: { 'x-user': 'cy' } })).status, 200)
      assert.equal((await ask('/both', { headers: { 'x-internal': 'yes' } })).status, 200)
      const denied = await ask('/both', { headers: {} })
      assert.deepEqual([denied.status, await denied.text()], [418, 'no: unauthenticated'])
    })

    test('options may come from other providers, and the engine is one itself', async t => {
      const useFactory = quota => ({ quota })
      const given = { provide: 'quota', useFactory: () => Quota.open('memory:', { plans: PLANS, verifier }) }
      class Engines {}
      Module({ providers: [given], exports: ['quota'] })(Engines)
      const module = moduleOf(QuotumModule.forRootAsync({ imports: [Engines], inject: ['quota'], useFactory }))
      const { ask } = await serving(t, adapter, module)
      assert.equal((await ask('/search')).status, 200)
      assert.deepEqual((await (await ask('/plans')).json()).map(plan => plan.id), ['free', 'pro'])
    })
  })
}

test('an engine that cannot be opened keeps the app from starting', async () => {
  const module = moduleOf(QuotumModule.forRoot({ quota: Quota.open('memory:') }))
  await assert.rejects(NestFactory.create(module, new ExpressAdapter(), { logger: false, abortOnError: false }), { code: 'no_plans' })
})

test('a mistake in a decorator or an option is told when it is made', async t => {
  const quota = await engine(t)
  assert.throws(() => Admit({ cost: { searches: 1 } }), { code: 'invalid_argument', argument: 'rule' })
  assert.throws(() => Reserve({ tokens: 1 }, {}), { code: 'invalid_argument', argument: 'ttlMs' })
  assert.throws(() => new QuotumGuard(quota, { quota, subjects: () => 'ana' }), { code: 'invalid_argument', argument: 'options' })
})

test('what is not HTTP is let in where nothing is asked for it, and otherwise an error', async t => {
  const guard = new QuotumGuard(await engine(t), {})
  const context = name => ({ getType: () => 'rpc', getClass: () => Searches, getHandler: () => Searches.prototype[name] })
  assert.equal(await guard.canActivate(context('other')), true)
  await assert.rejects(guard.canActivate(context('search')), /not for those of rpc/)
  // Nor does a rule for every handler let anybody pass without having been asked.
  const quota = await engine(t)
  const always = new QuotumGuard(quota, { quota, default: { costs: { searches: 1 } } })
  await assert.rejects(always.canActivate(context('other')), /put @SkipQuotas\(\) on it/)
})
