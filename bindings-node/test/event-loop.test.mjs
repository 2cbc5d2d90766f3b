// The event loop: what never blocks it, what keeps it alive, and what lets go.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { after, before, describe, test } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'

import { Quota } from 'quotum'

const PLANS = { default_plan: 'a', plans: { a: { quotas: { units: '1000000/total', pings: 'unlimited' }, rates: { api: '1000000/minute' } } } }

let folder
before(() => { folder = mkdtempSync(join(tmpdir(), 'quotum-loop-')) })
after(() => rmSync(folder, { recursive: true }))

const here = new URL('.', import.meta.url).pathname

/** Runs a program as a module of these tests; what it prints. */
function program (text, ...args) {
  return execFileSync(process.execPath, ['--input-type=module', '--eval', text, ...args], { cwd: here, encoding: 'utf8', timeout: 30_000 })
}

test('what is decided in memory takes no turn of the loop', async () => {
  const quota = await Quota.open(`sqlite:${folder}/turns.db`, { plans: PLANS })
  await quota.consume('user', { pings: 1 })
  let turns = 0
  const count = () => { turns++; handle = globalThis.setImmediate(count) }
  let handle = globalThis.setImmediate(count)
  for (let at = 0; at < 1_000; at++) await quota.consume('user', { pings: 1 })
  for (let at = 0; at < 1_000; at++) await quota.admit({ subject: 'user', rate: 'api' })
  assert.equal(turns, 0)
  clearImmediate(handle)
  await quota.close()
})

test('a store under load holds the loop up no longer than a timer that ticks meanwhile notices', async () => {
  const quota = await Quota.open(`sqlite:${folder}/load.db`, { plans: PLANS, lease: 'off' })
  const delay = monitorEventLoopDelay({ resolution: 5 })
  let longest = 0
  let last = performance.now()
  const tick = setInterval(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
  }, 1)
  delay.enable()
  const charge = async caller => {
    for (let at = 0; at < 200; at++) await quota.consume(`user-${caller % 16}`, { units: 1 })
  }
  await Promise.all(Array.from({ length: 64 }, (_, caller) => charge(caller)))
  delay.disable()
  clearInterval(tick)
  const used = await Promise.all(Array.from({ length: 16 }, async (_, user) => (await quota.usage(`user-${user}`)).quotas.find(({ metric }) => metric === 'units').used))
  assert.deepEqual(used, Array(16).fill(800))
  // Each of these waits for the disk; all of them together take seconds.
  assert.ok(longest < 250, `the loop was held up for ${longest} ms`)
  console.log(`event loop under load: p99 ${delay.percentile(99) / 1e6} ms, longest tick ${longest.toFixed(1)} ms`)
  await quota.close()
})

describe('the process', () => {
  test('goes on while an answer is waited for, and ends when none is', () => {
    const text = `
      import { Quota } from 'quotum'
      const quota = await Quota.open('sqlite:' + process.argv[1], { plans: ${JSON.stringify(PLANS)} })
      quota.consume('user', { units: 1 }).then(({ allowed }) => console.log('allowed', allowed))
    `
    assert.equal(program(text, join(folder, 'ends.db')).trim(), 'allowed true')
  })

  test('returns what it has leased at its end, also by process.exit', async () => {
    const plans = { default_plan: 'a', plans: { a: { quotas: { units: '10000/total' }, lease: { units: { max: 500 } } } } }
    const url = `sqlite:${folder}/leases.db`
    for (const end of ['', 'process.exit(0)']) {
      program(`
        import { Quota } from 'quotum'
        const quota = await Quota.open(${JSON.stringify(url)}, { plans: ${JSON.stringify(plans)} })
        for (let at = 0; at < 10; at++) await quota.consume('team', { units: 1 })
        if ((await quota.usage('team')).quotas[0].leased === 0) throw new Error('nothing was leased')
        ${end}
      `)
    }
    const quota = await Quota.open(url, { plans })
    const [{ used, stranded }] = (await quota.usage('team')).quotas
    assert.deepEqual([used, stranded], [20, 0])
    await quota.close()
  })

  test('ends where a listener, a verifier and a store are in the middle of something', () => {
    const text = `
      import { Quota } from 'quotum'
      const never = () => new Promise(() => {})
      const quota = await Quota.open('memory:', { plans: ${JSON.stringify(PLANS)}, verifier: never, onEvent: () => {} })
      quota.authenticate('some token').catch(() => {})
      for (let at = 0; at < 5_000; at++) quota.consume('user', { units: 1 })
      const hanging = await Promise.race([Quota.open({ begin: never }, { plans: ${JSON.stringify(PLANS)} }).catch(() => {}), new Promise(done => setTimeout(done, 200))])
      console.log('ends')
      process.exit(0)
    `
    assert.equal(program(text).trim(), 'ends')
  })
})

describe('an abort', () => {
  test('before the call asks nothing', async () => {
    const quota = await Quota.open(`sqlite:${folder}/abort.db`, { plans: PLANS, lease: 'off' })
    const signal = AbortSignal.abort(new Error('the client has gone'))
    await assert.rejects(quota.consume('user', { units: 1 }, { signal }), /the client has gone/)
    assert.equal((await quota.usage('user')).quotas.find(({ metric }) => metric === 'units').used, 0)
    await quota.close()
  })

  test('while the verifier is asked lets go of the call', async () => {
    const quota = await Quota.open('memory:', { plans: PLANS, verifier: () => new Promise(() => {}) })
    await assert.rejects(quota.admit({ token: 'some token' }, { signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' })
    await quota.close()
  })

  test('of a reservation leaves no hold behind, however late it comes', async () => {
    const quota = await Quota.open(`sqlite:${folder}/holds.db`, { plans: PLANS, lease: 'off' })
    for (let at = 0; at < 200; at++) {
      const abort = new AbortController()
      const reserved = quota.reserve('user', { units: 1 }, { ttlMs: 3_600_000, signal: abort.signal }).then(
        reservation => reservation.release(),
        error => assert.equal(error.name, 'AbortError'),
      )
      if (at % 4 > 0) await setImmediate()
      if (at % 4 > 1) await setTimeout(at % 3)
      abort.abort()
      await reserved
    }
    const held = async () => (await quota.usage('user')).quotas.find(({ metric }) => metric === 'units').held
    for (let wait = 0; await held() > 0 && wait < 100; wait++) await setTimeout(20)
    assert.equal(await held(), 0)
    await quota.close()
  })
})
