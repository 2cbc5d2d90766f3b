// The verbs, as a backend calls them.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { inspect } from 'node:util'

import { DeniedError, ManualClock, Plans, Quota, quotaOf, QuotumError, throwIfDenied } from 'quotum'
import { Mapping } from 'quotum/http'

const PLANS = {
  default_plan: 'free',
  plans: {
    free: {
      quotas: { searches: ['3/day', '10/month'], tokens: '100/day', pings: 'unlimited' },
      rates: { api: '2/minute' },
      features: { excel: false, days: 7 },
    },
    pro: { rank: 1, quotas: { searches: '50/day', tokens: '1000/day' }, rates: { api: '20/minute' }, features: { excel: true, days: 90 } },
  },
}

let folder, clock, quota
let subjects = 0
const somebody = () => `user-${++subjects}`

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'quotum-'))
  clock = new ManualClock(new Date('2026-03-10T15:00:00Z'))
  quota = await Quota.open(`sqlite:${folder}/quota.db`, { plans: PLANS, clock })
})

after(async () => {
  await quota.close()
  rmSync(folder, { recursive: true })
})

/** As `await using` does, which Node 20 does not have. */
async function using (disposable, act) {
  try {
    return await act(disposable)
  } finally {
    await disposable[Symbol.asyncDispose]()
  }
}

/** What a promise is rejected with, or a function throws. */
async function failure (act) {
  const found = await (async () => await act())().then(() => undefined, error => error)
  assert.ok(found instanceof QuotumError, inspect(found))
  return found
}

describe('decisions', () => {
  test('are plain, frozen objects that say everything', async () => {
    const decision = await quota.consume(somebody(), { searches: 2 })
    assert.deepEqual(decision, {
      allowed: true,
      subject: `user-${subjects}`,
      plan: 'free',
      planVersion: 1,
      quotas: [
        { metric: 'searches', period: 'day', limit: 3, used: 2, held: 0, leased: 0, stranded: 0, bonus: 0, overage: 0, remaining: 1, resetsAt: new Date('2026-03-11T00:00:00Z'), percent: 66, warning: false, shared: false },
        { metric: 'searches', period: 'month', limit: 10, used: 2, held: 0, leased: 0, stranded: 0, bonus: 0, overage: 0, remaining: 8, resetsAt: new Date('2026-04-01T00:00:00Z'), percent: 20, warning: false, shared: false },
      ],
      rates: [],
      identity: null,
      denied: null,
      wouldDeny: null,
      reason: null,
      upgradeTo: null,
      degraded: false,
      repeated: false,
    })
    for (const object of [decision, decision.quotas, decision.quotas[0], decision.rates]) {
      assert.ok(Object.isFrozen(object))
    }
    assert.throws(() => { 'use strict'; decision.allowed = false }, TypeError)
  })

  test('say the same whether memory or the store has decided', async () => {
    const subject = somebody()
    const written = await quota.admit({ subject, rate: 'api', costs: { pings: 1 }, features: ['days'] })
    const inNumbers = await quota.admit({ subject, rate: 'api', costs: { pings: 1 } })
    const [first, second] = [written, inNumbers].map(({ rates, ...same }) => ({ ...same, windows: rates.map(({ remaining, resetAfterMs, ...window }) => window) }))
    assert.deepEqual(first, second)
    assert.deepEqual([written.rates[0].remaining, inNumbers.rates[0].remaining], [1, 0])
  })

  test('that deny say why, until when, and which plan would help', async () => {
    const subject = somebody()
    await quota.consume(subject, { searches: 3 })
    const decision = await quota.consume(subject, { searches: 1 })
    assert.deepEqual([decision.allowed, decision.reason, decision.upgradeTo], [false, 'quota_exhausted', 'pro'])
    const { metric, period, limit, used, requested, resetsAt, message } = decision.denied
    assert.deepEqual({ metric, period, limit, used, requested }, { metric: 'searches', period: 'day', limit: 3, used: 3, requested: 1 })
    assert.deepEqual(resetsAt, new Date('2026-03-11T00:00:00Z'))
    assert.match(message, /searches: 3 of 3\/day used, 1 more do not fit/)
    assert.ok(Object.isFrozen(decision.denied))
    const known = quota.tryConsume(subject, { searches: 1 })
    assert.deepEqual(known, decision)
  })

  test('are thrown for those who want that', async () => {
    const subject = somebody()
    const allowed = await quota.consume(subject, { searches: 3 })
    assert.equal(throwIfDenied(allowed), allowed)
    const denied = await quota.consume(subject, { searches: 1 })
    assert.throws(() => throwIfDenied(denied), error => {
      assert.ok(error instanceof DeniedError && error instanceof QuotumError)
      assert.deepEqual([error.name, error.code, error.decision], ['DeniedError', 'denied', denied])
      return true
    })
  })

  test('name the tightest quota of a metric', async () => {
    const { quotas } = await quota.consume(somebody(), { searches: 1, tokens: 5 })
    assert.equal(quotaOf(quotas, 'searches').period, 'day')
    assert.equal(quotaOf(quotas, 'tokens').remaining, 95)
    assert.equal(quotaOf(quotas, 'pings'), undefined)
  })

  test('have dates of their own', async () => {
    const [first, second] = [await quota.check('user-x', { searches: 1 }), await quota.check('user-x', { searches: 1 })]
    first.quotas[0].resetsAt.setFullYear(1999)
    assert.deepEqual(second.quotas[0].resetsAt, new Date('2026-03-11T00:00:00Z'))
  })
})

describe('what memory can tell', () => {
  test('is told at once, and what it cannot is undefined and charges nothing', async () => {
    const subject = somebody()
    assert.equal(quota.tryConsume(subject, { searches: 1 }), undefined)
    assert.equal(quota.tryCheck(subject, { searches: 1 }), undefined)
    assert.equal(quota.tryAdmit({ subject, features: ['excel'] }), undefined)
    assert.equal((await quota.usage(subject)).quotas.find(({ metric }) => metric === 'searches').used, 0)
    assert.equal(quota.tryConsume(subject, { pings: 1 }).allowed, true)
    assert.equal(quota.tryAdmit({ subject, features: ['excel'] }).reason, 'feature_not_in_plan')
    assert.equal(quota.tryAdmit({ subject, features: { days: 7 } }).allowed, true)
    assert.equal(quota.tryAdmit({ subject, rate: 'api' }).rates[0].remaining, 1)
    assert.equal(quota.tryConsume(subject, { searches: 1 }), undefined)
  })

  test('is what a handle tells too', async () => {
    const subject = quota.subject(somebody())
    assert.equal(subject.tryConsume({ searches: 1 }), undefined)
    assert.equal((await subject.consume({ searches: 2 })).quotas[0].used, 2)
    assert.equal((await subject.check({ searches: 2 })).allowed, false)
    assert.equal((await subject.require('days', 8)).reason, 'feature_value_exceeded')
    assert.equal((await subject.admit({ rate: 'api', costs: { searches: 1 } })).allowed, true)
    assert.equal((await subject.consume({ searches: 1 }, { idempotencyKey: 'a' })).allowed, false)
    assert.equal((await subject.consume({ searches: 1 })).allowed, false)
    assert.equal(subject.tryCheck({ searches: 1 }).reason, 'quota_exhausted')
    assert.equal(subject.id, `user-${subjects}`)
  })
})

describe('arguments', () => {
  const subject = 'user-arguments'

  test('that are no units are refused, and name the metric', async () => {
    for (const amount of [NaN, Infinity, 1.5, -1, 2 ** 53, '1', true, 1n, null, undefined, {}, new Date(0)]) {
      for (const ask of [
        () => quota.consume(subject, { searches: amount }),
        () => quota.tryConsume(subject, { searches: amount }),
        () => quota.check(subject, { searches: amount }),
        () => quota.admit({ subject, costs: { searches: amount } }),
        () => quota.reserve(subject, { searches: amount }, { ttlMs: 1_000 }),
        () => quota.refund(subject, { searches: amount }),
        () => quota.subject(subject).consume({ searches: amount }),
      ]) {
        const { code, argument, message } = await failure(ask)
        assert.deepEqual([code, argument], ['invalid_argument', 'searches'], inspect(amount))
        assert.match(message, /expected a whole number of units, up to 9007199254740991/)
      }
    }
    assert.equal((await quota.usage(subject)).quotas[0].used, 0)
    assert.match((await failure(() => quota.consume(subject, { searches: 0 }))).message, /from 1 to 9007199254740991/)
  })

  test('of other types are refused, and named', async () => {
    const cases = [
      ['subject', () => quota.consume(42, { searches: 1 })],
      ['subject', () => quota.consume(undefined, { searches: 1 })],
      ['subject', () => quota.consume('', { searches: 1 })],
      ['subject', () => quota.consume('a'.repeat(257), { searches: 1 })],
      ['subject', () => quota.consume('half \ud800', { searches: 1 })],
      ['costs', () => quota.admit({ subject, costs: 7 })],
      ['costs', () => quota.admit({ subject, rate: 'api', costs: null })],
      ['costs', () => quota.admit({ subject, rate: 'api', costs: new Map([['searches', 1]]) })],
      ['costs', () => quota.admit({ subject, rate: 'api', costs: ['searches'] })],
      ['costs', () => quota.consume(subject)],
      ['costs', () => quota.tryConsume(subject, null)],
      ['costs', () => quota.check(subject, Promise.resolve({ searches: 1 }))],
      ['rate', () => quota.admit({ subject, rate: 5 })],
      ['rate', () => quota.tryAdmit({ subject, rate: null })],
      ['subject', () => quota.subject(subject).admit({ subject: 'other', costs: { searches: 1 } })],
      ['token', () => quota.subject(subject).admit({ token: 'other' })],
      ['statuses', () => new Mapping({ statuses: { quota_exausted: 429 } })],
      ['status', () => new Mapping({ statuses: { quota_exhausted: 99_999 } })],
      ['now', () => new ManualClock(new Date(8.64e15))],
      ['now', () => clock.setWall(new Date(NaN))],
      ['ttlS', () => Quota.open('memory:', { plans: PLANS, lease: { ttlS: 4_000 } })],
      ['failures', () => Quota.open('memory:', { plans: PLANS, breaker: { failures: 2 ** 40 } })],
      ['ratesMax', () => Quota.open('memory:', { plans: PLANS, ratesMax: 10 ** 14 })],
      ['ttlMs', () => quota.reserve(subject, { searches: 1 }, { ttlMs: 0 })],
      ['request', () => quota.admit('user-42')],
      ['request', () => quota.admit({ subject, cost: { searches: 1 } })],
      ['token', () => quota.admit({ subject, token: 't', costs: {} })],
      ['rateKey', () => quota.admit({ subject, rate: 'api', rateKey: 7 })],
      ['rate', () => quota.admit({ subject, rateKey: 'k' })],
      ['rateCost', () => quota.admit({ subject, rate: 'api', rateCost: 2 })],
      ['features', () => quota.admit({ subject, features: 'excel' })],
      ['days', () => quota.admit({ subject, features: { days: -1 } })],
      ['key', () => quota.rate('api', { ip: 'nowhere' })],
      ['cost', () => quota.rate('api', 'key', 1.5)],
      ['ttlMs', () => quota.reserve(subject, { searches: 1 }, { ttlMs: 0.5 })],
      ['ttlMs', () => quota.reserve(subject, { searches: 1 }, {})],
      ['options', () => quota.reserve(subject, { searches: 1 })],
      ['options', () => quota.consume(subject, { searches: 1 }, { idempotency_key: 'a' })],
      ['idempotencyKey', () => quota.consume(subject, { searches: 1 }, { idempotencyKey: 7 })],
      ['idempotencyKey', () => quota.consume(subject, { searches: 1 }, { idempotencyKey: '' })],
      ['signal', () => quota.consume(subject, { searches: 1 }, { signal: 'now' })],
      ['status', () => quota.subscribe(subject, 'pro', { status: 'gone' })],
      ['expiresAt', () => quota.subscribe(subject, 'pro', { expiresAt: '2027-01-01' })],
      ['expiresAt', () => quota.subscribe(subject, 'pro', { expiresAt: new Date(NaN) })],
      ['subscription', () => quota.subscribe(subject, 'pro', { expires: new Date() })],
      ['mode', () => quota.setEnforcement('on')],
      ['query', () => quota.subscribers({ plans: 'free' })],
      ['limit', () => quota.events({ limit: -1 })],
      ['now', () => new ManualClock('2026')],
      ['ms', () => clock.advance(-1)],
      ['plans', () => Quota.open('memory:', { plans: 7 })],
      ['options', () => Quota.open('memory:', { plan: PLANS })],
      ['store', () => Quota.open(undefined, { plans: PLANS })],
      ['clock', () => Quota.open('memory:', { plans: PLANS, clock: new Date() })],
      ['verifier', () => Quota.open('memory:', { plans: PLANS, verifier: 'me' })],
      ['onEvent', () => Quota.open('memory:', { plans: PLANS, onEvent: {} })],
      ['storeTimeoutMs', () => Quota.open('memory:', { plans: PLANS, storeTimeoutMs: '5s' })],
      ['breaker', () => Quota.open('memory:', { plans: PLANS, breaker: { cooldown: 1 } })],
      ['lease', () => Quota.open('memory:', { plans: PLANS, lease: 'on' })],
      ['pepper', () => Quota.open('memory:', { plans: PLANS, pepper: 'sixteen bytes or more' })],
    ]
    for (const [argument, ask] of cases) {
      const error = await failure(ask)
      assert.deepEqual([error.code, error.argument], ['invalid_argument', argument], `${ask} ${error.message}`)
      assert.match(error.message, new RegExp(`^argument \`${argument}\`: found .+, expected `))
    }
  })

  test('that nothing knows are refused with what is known', async () => {
    const { code, unknown, message } = await failure(() => quota.consume(subject, { serches: 1 }))
    assert.deepEqual([code, unknown], ['unknown_name', { kind: 'metric', name: 'serches', known: ['pings', 'searches', 'tokens'] }])
    assert.match(message, /unknown metric "serches"; the plans know: pings, searches, tokens/)
    assert.equal((await failure(() => quota.subscribe(subject, 'gold'))).unknown.kind, 'plan')
    assert.equal((await failure(() => quota.require(subject, 'excell'))).unknown.kind, 'feature')
    assert.equal((await failure(() => quota.rate('apis', 'k'))).unknown.kind, 'scope')
    for (const name of ['__proto__', 'constructor', 'toString', '\0', 'ümlaut', '🙂']) {
      assert.equal((await failure(() => quota.consume(subject, { [name]: 1 }))).code, 'unknown_name', name)
    }
  })

  test('that ask while they are read are asked for themselves', async () => {
    const [outer, inner] = [somebody(), somebody()]
    const costs = { searches: 1, get tokens () { quota.tryConsume(inner, { pings: 9 }); return 2 } }
    const { quotas } = await quota.consume(outer, costs)
    assert.deepEqual(quotas.map(({ metric, used }) => [metric, used]), [['searches', 1], ['searches', 1], ['tokens', 2]])
  })

  test('of many names and of many costs are written out', async () => {
    for (let at = 0; at < 5_000; at++) assert.equal((await failure(() => quota.consume(subject, { [`m${at}`]: 1 }))).code, 'unknown_name')
    assert.equal((await quota.consume(somebody(), { searches: 1 })).allowed, true)
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`m${at}`, 1]))
    const plans = { default_plan: 'a', plans: { a: { quotas: Object.fromEntries(Object.keys(many).map(metric => [metric, '5/day'])) } } }
    await using(await Quota.open('memory:', { plans }), async wide => {
      assert.equal((await wide.consume('user', many)).quotas.length, 100)
      assert.equal((await wide.consume('user', { ...many, m7: 5 })).denied.metric, 'm7')
    })
  })
})

describe('verbs', () => {
  test('charge once under an idempotency key', async () => {
    const subject = somebody()
    const ask = costs => quota.consume(subject, costs, { idempotencyKey: 'order-7' })
    const [first, second] = [await ask({ searches: 1 }), await ask({ searches: 1 })]
    assert.deepEqual([first.repeated, second.repeated, second.quotas[0].used], [false, true, 1])
    assert.equal((await failure(() => ask({ searches: 2 }))).code, 'conflict')
  })

  test('refund, grant, give back and reset', async () => {
    const subject = somebody()
    await quota.consume(subject, { searches: 3 })
    assert.equal((await quota.refund(subject, { searches: 1 }))[0].used, 2)
    assert.equal((await quota.grant(subject, { searches: 5 }))[0].limit, 8)
    const states = await quota.resetUsage(subject, 'searches')
    assert.deepEqual(states.map(({ used }) => used), [0, 0])
    assert.ok(Object.isFrozen(states) && Object.isFrozen(states[0]))
  })

  test('tell usage, plans and subscriptions', async () => {
    const subject = somebody()
    const expiresAt = new Date('2026-05-01T00:00:00Z')
    await quota.subscribe(subject, 'pro', { expiresAt, quotas: { searches: ['7/day', '70/month'] }, features: { days: 365 } })
    const usage = await quota.usage(subject)
    assert.deepEqual([usage.plan, usage.status, usage.expiresAt], ['pro', 'active', expiresAt])
    assert.deepEqual(usage.features, { days: 365, excel: true })
    assert.deepEqual(await quota.subscription(subject), {
      plan: 'pro', status: 'active', since: clock.now, trialEndsAt: null, expiresAt, anchor: null, zone: null, account: null,
      features: { days: 365 }, quotas: { searches: ['7/day', '70/month'] },
    })
    assert.equal(await quota.feature(subject, 'days'), 365)
    assert.equal((await quota.cancel(subject)).status, 'canceled')
    assert.equal(await quota.subscription('nobody'), null)
    const [free, pro] = await quota.plans()
    assert.deepEqual([free.id, free.quotas.searches, pro.rank], ['free', ['3/day', '10/month'], 1])
    assert.deepEqual((await quota.subscribers({ plan: 'pro' })).map(({ subject }) => subject), [subject])
    assert.deepEqual(await quota.census(), [{ plan: 'pro', status: 'canceled', subjects: 1 }])
    assert.equal(quota.catalogStatus.origin, 'file')
  })

  test('leave an audit trail of who changed what', async () => {
    const subject = somebody()
    await quota.actingAs('admin-1').grant(subject, { searches: 1 })
    const [event] = await quota.events({ subject, changesOnly: true })
    assert.deepEqual([event.name, event.actor, event.subject], ['usage_adjusted', 'admin-1', subject])
    assert.match(JSON.stringify(event.detail), /searches/)
    assert.ok(event.sequence > 0 && event.at instanceof Date)
    assert.deepEqual(await quota.events({ after: event.sequence, subject }), [])
  })

  test('limit attempts by address', async () => {
    const attempts = []
    for (const ip of ['2001:db8::1', '2001:db8::2', '2001:db8::3']) attempts.push(await quota.rate('api', { ip }))
    assert.deepEqual(attempts.map(({ allowed }) => allowed), [true, true, false])
    assert.deepEqual([attempts[2].neverFits, attempts[2].retryAfterMs, attempts[2].windows[0].scope], [false, 30_000, 'api'])
    await quota.clearRates({ ip: '2001:db8::9' })
    assert.equal((await quota.rate('api', { ip: '2001:db8::1' })).allowed, true)
  })

  test('switch enforcement', async () => {
    const subject = somebody()
    await quota.setEnforcement('shadow', { metric: 'searches' })
    const decision = await quota.consume(subject, { searches: 4 })
    assert.deepEqual([decision.allowed, decision.wouldDeny.reason], [true, 'never_fits'])
    await quota.setEnforcement('enforce', { metric: 'searches' })
    assert.equal((await quota.consume(somebody(), { searches: 4 })).allowed, false)
  })

  test('count everything as OpenMetrics', () => {
    assert.match(quota.metrics(), /^# HELP quotum_/)
    assert.equal(quota.eventsDropped, 0)
    assert.equal(quota.tokenStats, null)
    assert.deepEqual(quota.now, clock.now)
  })
})

describe('reservations', () => {
  test('charge what was used and give the rest back', async () => {
    const subject = somebody()
    const reservation = await quota.reserve(subject, { tokens: 60 }, { ttlMs: 60_000 })
    assert.equal(reservation.allowed, true)
    assert.deepEqual(reservation.expiresAt, new Date(clock.now.getTime() + 60_000))
    assert.equal((await quota.usage(subject)).quotas.find(({ metric }) => metric === 'tokens').held, 60)
    const settlement = await reservation.commit({ tokens: 42 })
    assert.deepEqual(settlement, { at: clock.now, repeated: false, consumed: { tokens: 42 }, overage: { tokens: 0 } })
    assert.deepEqual(await reservation.commit({ tokens: 42 }), { ...settlement, repeated: true })
    assert.equal((await reservation.release()).repeated, true)
  })

  test('are given back at the end of their block, also where it throws', async () => {
    const subject = somebody()
    const tokens = async () => (await quota.usage(subject)).quotas.find(({ metric }) => metric === 'tokens')
    const answer = using(await quota.reserve(subject, { tokens: 60 }, { ttlMs: 60_000 }), async reservation => {
      assert.deepEqual([reservation.allowed, (await tokens()).held], [true, 60])
      throw new Error('the model is down')
    })
    await assert.rejects(answer, /the model is down/)
    assert.deepEqual([(await tokens()).held, (await tokens()).used], [0, 0])
  })

  test('can be settled by their id, elsewhere', async () => {
    const reservation = await quota.reserve(somebody(), { tokens: 10 }, { ttlMs: 60_000 })
    const id = reservation.detach()
    assert.match(id, /^[0-9a-f]{32}$/)
    assert.equal(id, reservation.id)
    assert.deepEqual((await quota.commit(id, { tokens: 7 })).consumed, { tokens: 7 })
    assert.equal((await failure(() => quota.commit('f'.repeat(32)))).code, 'hold_unknown')
    assert.equal(reservation.detach(), null)
  })

  test('that are denied hold nothing', async () => {
    const reservation = await quota.reserve({ subject: somebody(), costs: { tokens: 101 } }, { ttlMs: 60_000 })
    assert.deepEqual([reservation.allowed, reservation.id, reservation.decision.reason], [false, null, 'never_fits'])
    assert.equal((await failure(() => reservation.commit())).code, 'denied')
  })

  test('expire', async () => {
    const reservation = await quota.reserve(somebody(), { tokens: 10 }, { ttlMs: 1_000 })
    clock.advance(1_001)
    assert.equal((await failure(() => reservation.commit())).code, 'hold_expired')
  })

  test('decide on everything else first', async () => {
    const subject = somebody()
    const ask = () => quota.reserve({ subject, rate: 'api', features: { days: 7 }, costs: { tokens: 10 } }, { ttlMs: 1_000 })
    const [first, second, third] = [await ask(), await ask(), await ask()]
    assert.deepEqual([first.allowed, second.allowed, third.decision.reason], [true, true, 'rate_limited'])
    first.letGo()
    second.letGo()
    assert.equal((await failure(() => quota.reserve({ rate: 'api' }, { ttlMs: 1 }))).argument, 'subject')
  })
})

describe('plans', () => {
  test('are refused with every problem', async () => {
    const path = join(folder, 'bad.toml')
    writeFileSync(path, "default_plan = 'gold'\n[plans.free]\nquotas = { searches = '3/fortnight' }\n")
    for (const act of [() => Quota.open('memory:', { plans: path }), () => Plans.read(path), () => quota.setPlans(path)]) {
      const { code, message } = await failure(act)
      assert.equal(code, 'plans_refused')
      assert.match(message, /bad\.toml:1: .*gold/)
      assert.match(message, /bad\.toml:3: .*fortnight/)
    }
    assert.equal((await failure(() => Quota.open('memory:'))).code, 'no_plans')
  })

  test('are values', async () => {
    const plans = Plans.from(PLANS)
    assert.deepEqual(plans.plans.map(({ id }) => id), ['free', 'pro'])
    assert.equal(plans.defaultPlan.id, 'free')
    assert.equal(plans.get('pro').features.days, 90)
    assert.throws(() => plans.get('gold'), { code: 'unknown_name', message: /the plans know: free, pro/ })
    assert.deepEqual(Plans.fromJson(plans.toJson()).plans, plans.plans)
    assert.equal(Plans.fromToml("default_plan = 'a'\n[plans.a]\n").defaultPlan.name, 'a')
    assert.throws(() => Plans.from(7), { code: 'invalid_argument' })
    await using(await Quota.open('memory:', { plans }), async other => {
      assert.equal(await other.setPlans({ default_plan: 'b', plans: { b: {} } }), 1)
      assert.deepEqual((await other.plans()).map(({ id }) => id), ['b'])
    })
  })
})

describe('an engine that was closed', () => {
  test('refuses every verb, and closing it again is no mistake', async () => {
    const closed = await Quota.open('memory:', { plans: PLANS })
    const handle = closed.subject('user-42')
    await closed.close()
    await closed.close()
    const asks = [
      () => closed.consume('user-42', { searches: 1 }),
      () => closed.tryConsume('user-42', { searches: 1 }),
      () => closed.usage('user-42'),
      () => closed.metrics(),
      () => closed.authenticate('token'),
      () => handle.consume({ searches: 1 }),
    ]
    for (const ask of asks) assert.equal((await failure(ask)).code, 'closed')
  })

  test('has returned what it had leased', async () => {
    const url = `sqlite:${folder}/closing.db`
    const options = { plans: { default_plan: 'a', plans: { a: { quotas: { units: '10000/total' }, lease: { units: { max: 500 } } } } } }
    const first = await Quota.open(url, options)
    await first.consume('team', { units: 1 })
    await first.close()
    await using(await Quota.open(url, options), async second => {
      const [units] = (await second.usage('team')).quotas
      assert.deepEqual([units.used, units.stranded], [1, 0])
    })
  })
})

describe('what is kept too long', () => {
  test('never reaches another engine', async () => {
    const opened = []
    const open = async () => { opened.push(await Quota.open('memory:', { plans: PLANS })); return opened.at(-1) }
    const first = await open()
    const [handle, acting] = [first.subject('user'), first.actingAs('admin')]
    const reservation = await first.reserve('user', { tokens: 5 }, { ttlMs: 60_000 })
    await first.close()
    const second = await open()
    const [other, reserved] = [second.subject('user'), await second.reserve('user', { tokens: 7 }, { ttlMs: 60_000 })]
    for (const ask of [
      () => first.consume('user', { searches: 1 }),
      () => acting.consume('user', { searches: 1 }),
      () => handle.consume({ searches: 1 }),
      () => reservation.commit(),
      () => reservation.release(),
    ]) assert.equal((await failure(ask)).code, 'closed')
    await reservation[Symbol.asyncDispose]()
    await first[Symbol.asyncDispose]()
    assert.equal((await other.consume({ searches: 1 })).quotas[0].used, 1)
    assert.deepEqual((await reserved.commit({ tokens: 6 })).consumed, { tokens: 6 })
    await second.close()
  })

  test('does not keep the file of an engine that was closed open', { skip: process.platform !== 'linux' }, async () => {
    const path = join(folder, 'kept.db')
    const kept = await Quota.open(`sqlite:${path}`, { plans: PLANS })
    const held = [kept.subject('user'), kept.actingAs('admin'), await kept.reserve('user', { tokens: 5 }, { ttlMs: 600_000 })]
    const files = () => readdirSync('/proc/self/fd').filter(fd => { try { return readlinkSync(`/proc/self/fd/${fd}`).startsWith(path) } catch { return false } })
    assert.ok(files().length > 0)
    await kept.close()
    await held[2].commit().catch(() => {})
    for (let wait = 0; files().length > 0 && wait < 200; wait++) await setTimeout(10)
    assert.deepEqual(files(), [])
  })

  test('does not keep units that a failed commit has left', async () => {
    const subject = somebody()
    const held = async () => (await quota.usage(subject)).quotas.find(({ metric }) => metric === 'tokens').held
    await using(await quota.reserve(subject, { tokens: 50 }, { ttlMs: 600_000 }), async reservation => {
      assert.equal((await failure(() => reservation.commit({ tokns: 1 }))).code, 'invalid_argument')
      assert.equal(await held(), 50)
    })
    assert.equal(await held(), 0)
    const other = await quota.reserve(subject, { tokens: 50 }, { ttlMs: 600_000 })
    const committing = other.commit({ tokens: 20 })
    other.letGo()
    assert.deepEqual((await committing).consumed, { tokens: 20 })
  })

  test('shows no secret in an error', async () => {
    const secret = 'postgres://user:hunter2@host/db'
    for (const ask of [
      () => Quota.open({ url: secret }, { plans: PLANS }),
      () => Quota.open(`${secret}\ud800`, { plans: PLANS }),
      () => quota.admit(secret),
      () => quota.authenticate({ token: secret }),
      () => Quota.open('memory:', { plans: PLANS, pepper: secret }),
      () => Quota.open('memory:', { plans: PLANS, verifier: secret }),
    ]) assert.ok(!(await failure(ask)).message.includes('hunter2'), String(ask))
  })
})
