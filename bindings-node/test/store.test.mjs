// Stores of one's own: right ones pass the suite, wrong ones do not, and those that throw or hang harm nobody else.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'

import { Quota } from 'quotum'
import { checkStore } from 'quotum/testing'

import { LockedStore, OptimisticStore } from './stores.mjs'

const PLANS = { default_plan: 'a', plans: { a: { quotas: { jobs: '3/total' } } } }

const alive = setInterval(() => {}, 1_000)
after(() => clearInterval(alive))

describe('a store in JavaScript', () => {
  test('of which every transaction waits for the one before passes every rule', async () => {
    const rules = await checkStore(() => new LockedStore())
    assert.ok(rules.length > 80, String(rules.length))
  })

  test('of which transactions conflict passes every rule', async () => {
    assert.ok((await checkStore(async () => new OptimisticStore())).length > 80)
  })

  test('that forgets is found out', async () => {
    class Forgetful extends LockedStore {
      async begin () {
        const transaction = await super.begin()
        let puts = 0
        const put = transaction.put.bind(transaction)
        transaction.put = async (...entry) => { if (++puts % 3 > 0) await put(...entry) }
        return transaction
      }
    }
    await assert.rejects(checkStore(() => new Forgetful()), /^Error: the store breaks \d+ of \d+ rules:\n {2}/)
  })

  test('that is none is refused', async () => {
    await assert.rejects(checkStore(() => ({})), { code: 'invalid_argument', argument: 'factory' })
    await assert.rejects(checkStore(() => { throw new Error('no folder') }), /no folder/)
    await assert.rejects(Quota.open({}, { plans: PLANS }), { code: 'invalid_argument', argument: 'store' })
  })

  test('is shared by engines, which never grant more than there is', async () => {
    const store = new OptimisticStore()
    const engines = await Promise.all([1, 2, 3].map(() => Quota.open(store, { plans: PLANS })))
    const decisions = await Promise.all(Array.from({ length: 30 }, (_, at) => engines[at % 3].consume('ana', { jobs: 1 })))
    assert.equal(decisions.filter(({ allowed }) => allowed).length, 3)
    for (const engine of engines) await engine.close()
  })
})

describe('a store that fails', () => {
  const failing = (method, act) => {
    const store = new LockedStore()
    return {
      isBroken: false,
      async begin () {
        const transaction = await store.begin()
        if (!this.isBroken) return transaction
        if (method === 'begin') return await act(transaction)
        transaction[method] = () => act(transaction)
        return transaction
      },
    }
  }

  for (const method of ['begin', 'get', 'put', 'commit']) {
    test(`by throwing in \`${method}\` is a store that cannot answer`, async () => {
      const store = failing(method, ({ end }) => { end(); throw new Error('the disk is gone') })
      const quota = await Quota.open(store, { plans: PLANS, breaker: false })
      assert.equal((await quota.consume('ana', { jobs: 1 })).allowed, true)
      store.isBroken = true
      const { reason, denied } = await quota.consume('ana', { jobs: 1 })
      assert.equal(reason, 'store_unavailable')
      assert.match(denied.cause, /the disk is gone/)
      store.isBroken = false
      assert.equal((await quota.consume('ana', { jobs: 1 })).allowed, true)
      await quota.close()
    })
  }

  test('by hanging is waited for as long as the timeout says, and the loop is not', async () => {
    const store = failing('begin', () => new Promise(() => {}))
    const quota = await Quota.open(store, { plans: PLANS, storeTimeoutMs: 200, breaker: false })
    store.isBroken = true
    let ticks = 0
    const tick = setInterval(() => { ticks++ }, 5)
    const began = performance.now()
    assert.equal((await quota.consume('ana', { jobs: 1 })).reason, 'store_unavailable')
    assert.ok(performance.now() - began >= 190)
    assert.ok(ticks > 10, String(ticks))
    clearInterval(tick)
  })

  test('by scanning without end is stopped', async () => {
    const store = failing('scan', async function * () {})
    const quota = await Quota.open(store, { plans: PLANS, breaker: false })
    store.isBroken = true
    const begin = store.begin
    store.begin = async function () {
      const transaction = await begin.call(this)
      transaction.scan = () => (function * () { for (;;) yield [new Uint8Array([1]), new Uint8Array([1])] })()
      return transaction
    }
    assert.match((await quota.subscribers().catch(error => error)).message, /entries from `scan`/)
    store.isBroken = false
    store.begin = begin
    await quota.close()
  })

  test('by being slow has every transaction ended, also of an engine that is closed meanwhile', async () => {
    const counts = { begun: 0, ended: 0 }
    let isSlow = false
    const inner = new OptimisticStore()
    const store = {
      async begin () {
        if (isSlow) await setTimeout(150)
        counts.begun++
        const transaction = inner.begin()
        const { commit, rollback } = transaction
        return { ...transaction, commit: () => { counts.ended++; commit() }, rollback: () => { counts.ended++; rollback() } }
      },
    }
    const quota = await Quota.open(store, { plans: PLANS, storeTimeoutMs: 50, breaker: false })
    isSlow = true
    await Promise.all(Array.from({ length: 5 }, (_, at) => quota.consume(`user-${at}`, { jobs: 1 })))
    await quota.close().catch(() => {})
    for (let wait = 0; counts.begun > counts.ended && wait < 100; wait++) await setTimeout(20)
    assert.equal(counts.ended, counts.begun)
  })

  test('by answering nonsense is a store that cannot answer', async () => {
    for (const [method, answer] of [['get', 7], ['get', new Uint8Array([0, 1, 2])], ['scan', 7], ['scan', [[1, 2]]], ['begin', null], ['begin', {}]]) {
      const store = failing(method, ({ end }) => { end(); return answer })
      const quota = await Quota.open(store, { plans: PLANS, breaker: false })
      store.isBroken = true
      const told = method === 'scan'
        ? await quota.subscribers().catch(error => error.code)
        : (await quota.consume('ana', { jobs: 1 })).reason
      assert.equal(told, method === 'scan' ? 'store_failed' : 'store_unavailable', `${method} ${String(answer)}`)
      await setTimeout(0)
    }
  })
})
