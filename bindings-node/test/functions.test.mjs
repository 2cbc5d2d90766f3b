// Functions of the host's: verifiers, plans, subscriptions and listeners, which may be async, throw, hang and be slow.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'

import { ManualClock, Plans, Quota } from 'quotum'

const PLANS = {
  default_plan: 'free',
  plans: { free: { quotas: { jobs: '3/day', pings: 'unlimited' } }, pro: { rank: 1, quotas: { jobs: '50/day', pings: 'unlimited' } } },
}

let folder
before(() => { folder = mkdtempSync(join(tmpdir(), 'quotum-functions-')) })
after(() => rmSync(folder, { recursive: true }))

// Listeners keep no process alive.
const alive = setInterval(() => {}, 1_000)
after(() => clearInterval(alive))

const opened = []
async function open (options) {
  const quota = await Quota.open('memory:', { plans: PLANS, ...options })
  opened.push(quota)
  return quota
}
after(async () => { for (const quota of opened) await quota.close() })

/** What a promise is rejected with. */
const failure = promise => promise.then(() => assert.fail('it was not rejected'), error => error)

describe('a verifier', () => {
  test('may name a subject, an identity or nobody, at once or later', async () => {
    const expiresAt = new Date('2099-01-01T00:00:00Z')
    const answers = {
      subject: () => 'ana',
      later: async () => { await setTimeout(5); return 'ana' },
      identity: () => ({ subject: 'ana', expiresAt, attributes: { role: 'admin' } }),
      expiring: () => ({ subject: 'ana', expiresAt }),
      null: () => null,
      undefined: () => undefined,
    }
    const quota = await open({ verifier: token => answers[token]() })
    assert.deepEqual(await quota.authenticate('subject'), { subject: 'ana', expiresAt: null, attributes: {} })
    assert.deepEqual(await quota.authenticate('later'), { subject: 'ana', expiresAt: null, attributes: {} })
    const identity = await quota.authenticate('identity')
    assert.deepEqual(identity, { subject: 'ana', expiresAt, attributes: { role: 'admin' } })
    assert.ok(Object.isFrozen(identity) && Object.isFrozen(identity.attributes))
    for (const token of ['null', 'undefined', '', 'half \udc00', 'a\0b']) assert.equal(await quota.authenticate(token), null, token)
    for (const token of ['subject', 'identity', 'expiring']) {
      const first = await quota.admit({ token, costs: { pings: 1 } })
      const known = quota.tryAdmit({ token, costs: { pings: 1 } })
      assert.deepEqual(known, first)
      assert.deepEqual(known.identity, await quota.authenticate(token))
      assert.deepEqual([known.subject, known.plan], ['ana', 'free'])
    }
    assert.equal((await quota.admit({ token: 'null', costs: { jobs: 1 } })).reason, 'unauthenticated')
  })

  test('is asked once, however many wait', async () => {
    let asked = 0
    const quota = await open({ verifier: async token => { asked++; await setTimeout(20); return token } })
    const found = await Promise.all(Array.from({ length: 1_000 }, () => quota.authenticate('ana')))
    assert.ok(found.every(({ subject }) => subject === 'ana'))
    assert.equal(asked, 1)
    assert.deepEqual(quota.tokenStats.evictions, 0)
    await quota.forgetToken('ana')
    await quota.authenticate('ana')
    assert.equal(asked, 2)
  })

  test('that throws cannot tell, and lets nobody in', async () => {
    const thrown = [new TypeError('no database'), 'a word', undefined]
    const quota = await open({ verifier: token => { throw thrown[token] } })
    for (const token of ['0', '1', '2']) {
      const { code, retry, message } = await failure(quota.admit({ token, costs: { jobs: 1 } }))
      assert.deepEqual([code, retry], ['verify_failed', 'safe'])
      assert.ok(message.includes(String(thrown[token]).replace('TypeError: ', '')), message)
    }
  })

  test('that throws what cannot be told in words cannot tell either', async () => {
    const thrown = [Object.create(null), { get message () { throw new Error('no') } }, Object.assign(new Error('x'), { name: Symbol('x') })]
    const quota = await open({ verifier: token => { throw thrown[token] }, onEvent: () => { throw Object.create(null) } })
    for (const token of ['0', '1', '2']) assert.equal((await failure(quota.authenticate(token))).code, 'verify_failed')
    assert.equal((await quota.consume('ana', { jobs: 1 })).allowed, true)
  })

  test('that hangs is waited for as long as a store, and keeps nobody else out', async () => {
    const quota = await open({ verifier: token => (token === 'ana' ? 'ana' : new Promise(() => {})), storeTimeoutMs: 100, verificationsMax: 5 })
    const hanging = Array.from({ length: 5 }, (_, at) => failure(quota.authenticate(`token-${at}`)))
    for (const { code, message } of await Promise.all(hanging)) {
      assert.equal(code, 'verify_failed')
      assert.match(message, /did not answer within 100 ms/)
    }
    assert.equal((await quota.authenticate('ana')).subject, 'ana')
  })

  test('that answers nonsense is at fault, and no error shows the token', async () => {
    const token = 'secret-token-of-ana'
    for (const answer of [7, {}, [token], { subject: '' }, { subject: 'a'.repeat(300) }, { subject: 'a', expiresAt: 'tomorrow' }, { subject: 'a', attributes: { a: 1 } }]) {
      const quota = await open({ verifier: () => answer })
      const error = await failure(quota.admit({ token, costs: { jobs: 1 } }))
      assert.equal(error.code, 'verify_failed')
      assert.ok(!error.message.includes(token), error.message)
    }
    const leaking = await open({ verifier: token => { throw new Error(`cannot read ${token}`) } })
    const { message } = await failure(leaking.authenticate(token))
    assert.ok(!message.includes(token), message)
  })

  test('may ask the engine', async () => {
    const quota = await open({ verifier: async token => (await quota.rate('tries', 'all').catch(() => null)) ?? token })
    assert.equal((await quota.authenticate('ana')).subject, 'ana')
  })
})

describe('the host\'s own plans and subscriptions', () => {
  test('are read by functions', async () => {
    const clock = new ManualClock(new Date('2026-03-10T15:00:00Z'))
    let plans = PLANS
    const kept = {
      ana: 'pro',
      bob: { plan: 'pro', expiresAt: new Date('2026-03-01T00:00:00Z') },
      eve: { plan: 'free', quotas: { jobs: '7/day' } },
    }
    const quota = await open({ clock, plans: async () => plans, subscriptions: async subject => kept[subject] })
    assert.equal((await quota.consume('ana', { jobs: 50 })).plan, 'pro')
    // What was paid for is over.
    assert.equal((await quota.consume('bob', { jobs: 1 })).plan, 'free')
    assert.equal((await quota.consume('eve', { jobs: 7 })).quotas[0].limit, 7)
    assert.equal((await quota.consume('joe', { jobs: 3 })).plan, 'free')
    assert.equal(quota.catalogStatus.origin, 'store')
    assert.match((await failure(quota.subscribe('ana', 'free'))).message, /kept by the host/)
    plans = Plans.from({ default_plan: 'free', plans: { ...PLANS.plans, max: { rank: 2, quotas: { jobs: 'unlimited' } } } })
    quota.clearCatalog()
    assert.deepEqual((await quota.plans()).map(({ id }) => id), ['free', 'pro', 'max'])
  })

  test('that throw, hang or answer nonsense are a store that cannot answer', async () => {
    for (const [said, subscriptions] of [
      ['no database', () => { throw new Error('no database') }],
      ['did not answer within', () => new Promise(() => {})],
      ['subscriptions', () => 7],
      ['plan', () => ({})],
      ['status', () => ({ plan: 'pro', status: 'gone' })],
    ]) {
      const quota = await open({ subscriptions, storeTimeoutMs: 200, breaker: false })
      const { reason, denied } = await quota.consume('ana', { jobs: 1 })
      assert.equal(reason, 'store_unavailable')
      assert.ok(denied.cause.includes(said), `${said}: ${denied.cause}`)
    }
    const plans = () => { throw new Error('no plans today') }
    assert.match((await failure(Quota.open('memory:', { plans }).then(quota => quota.consume('ana', { jobs: 1 })))).message, /no plans today/)
  })
})

describe('a listener', () => {
  test('hears of every event', async () => {
    const heard = []
    const quota = await open({ onEvent: event => heard.push(event) })
    await quota.consume('ana', { jobs: 3 })
    await quota.consume('ana', { jobs: 1 })
    while (heard.filter(({ name }) => name === 'quota_exhausted').length === 0) await setTimeout(1)
    const denied = heard.find(({ name }) => name === 'quota_exhausted')
    assert.deepEqual([denied.subject, denied.plan, denied.metric, denied.used, denied.limit, denied.upgradeTo], ['ana', 'free', 'jobs', 3, 3, 'pro'])
    assert.ok(denied.at instanceof Date && Object.isFrozen(denied))
    assert.ok(heard.some(({ name }) => name === 'quota_check_success'))
  })

  test('may be an EventEmitter, on which every event has its own name', async () => {
    const emitter = new EventEmitter()
    const quota = await open({ onEvent: emitter })
    const heard = once(emitter, 'quota_exhausted')
    await quota.consume('ana', { jobs: 3 })
    await quota.consume('ana', { jobs: 1 })
    assert.equal((await heard)[0].subject, 'ana')
  })

  test('that throws or rejects is told of as a warning, and harms nothing', async () => {
    const warned = []
    const warn = warning => { if (warning.name === 'QuotumWarning') warned.push(warning.message) }
    process.on('warning', warn)
    const listeners = [() => { throw new Error('a listener\'s own') }, async () => { throw new Error('a listener\'s own') }]
    for (const onEvent of listeners) {
      const quota = await open({ onEvent })
      assert.equal((await quota.consume('ana', { jobs: 1 })).allowed, true)
    }
    while (warned.length < 2) await setTimeout(1)
    process.off('warning', warn)
    assert.ok(warned.every(message => message === 'a listener to events has thrown Error: a listener\'s own'), warned[0])
  })

  test('that is slow delays nobody, and what it is too slow for is dropped and counted', async () => {
    let heard = 0
    const quota = await open({
      onEvent: () => {
        heard++
        const until = performance.now() + 0.3
        while (performance.now() < until);
      },
    })
    let longest = 0
    for (let at = 0; at < 30_000; at++) {
      const began = performance.now()
      await quota.consume('ana', { pings: 1 })
      longest = Math.max(longest, performance.now() - began)
    }
    assert.ok(longest < 100, `${longest} ms`)
    await setTimeout(50)
    assert.ok(quota.eventsDropped > 0)
    assert.ok(heard < 30_000)
  })
})

test('what the engine warns of is a warning of the process', () => {
  const text = `
    import { Quota } from 'quotum'
    process.on('warning', ({ name, message }) => { console.log(name, message); process.exit() })
    let plans = ${JSON.stringify(PLANS)}
    const quota = await Quota.open('memory:', { plans: () => { if (plans) return plans; throw new Error('no database') }, catalogTtlMs: 1 })
    await quota.consume('ana', { jobs: 1 })
    plans = null
    setInterval(() => { quota.consume('ana', { jobs: 1 }) }, 5)
  `
  const here = new URL('.', import.meta.url).pathname
  const said = execFileSync(process.execPath, ['--no-warnings', '--input-type=module', '--eval', text], { cwd: here, encoding: 'utf8', timeout: 30_000 })
  assert.match(said, /^QuotumWarning .*no database/)
})

test('an engine that nobody holds any more lets go of its functions', async () => {
  const freed = []
  const registry = new FinalizationRegistry(name => freed.push(name))
  await (async () => {
    const verifier = token => token
    registry.register(verifier, 'verifier')
    const quota = await Quota.open('memory:', { plans: PLANS, verifier })
    await quota.authenticate('ana')
  })()
  for (let wait = 0; freed.length === 0 && wait < 100; wait++) {
    globalThis.gc?.()
    await setTimeout(10)
  }
  assert.deepEqual(freed, ['verifier'])
})
