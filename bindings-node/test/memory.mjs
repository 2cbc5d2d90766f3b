// Ten million calls of every kind, and the resident memory after two million and after all of them, in MiB. A program of
// its own: the test runner's hooks would keep what they saw.
import { setImmediate } from 'node:timers/promises'

import { Quota } from 'quotum'

const PLANS = {
  default_plan: 'a',
  plans: { a: { quotas: { pings: 'unlimited', jobs: '1/total', units: '9007199254740991/total' }, rates: { api: '1000000/second' }, features: { days: 7 } } },
}

const CALLS = 10_000_000
const ROUND = 1_000_000

let heard = 0
const options = { plans: PLANS, verifier: token => token, recordsMax: 1_000, ratesMax: 1_000 }
const quota = await Quota.open('memory:', options)
const heardOf = await Quota.open('memory:', { ...options, onEvent: () => { heard++ } })
const handle = quota.subject('ana')
// Denied from memory from now on.
await quota.consume('ana', { jobs: 1 })
const kinds = [
  at => quota.tryConsume(`user-${at % 500}`, { pings: 1 }),
  () => handle.tryConsume({ pings: 1 }),
  async () => await quota.consume('ana', { pings: 1 }),
  async at => await quota.consume(`user-${at % 500}`, { units: 1 }),
  async () => await quota.admit({ subject: 'ana', rate: 'api' }),
  async at => await quota.admit({ token: `token-${at % 500}`, costs: { pings: 1 } }),
  async () => await quota.authenticate('token-1'),
  async () => await quota.consume('ana', { jobs: 1 }),
  async () => await quota.require('ana', 'days', 8),
  async () => { await quota.consume('ana', { jbos: 1 }).catch(() => {}) },
  async at => await heardOf.consume(`user-${at % 5_000}`, { units: 1 }),
]
const rare = async at => {
  const reservation = await quota.reserve('ana', { units: 5 }, { ttlMs: 60_000 })
  if (at % 2 > 0) await reservation.commit({ units: 1 })
  else reservation.letGo()
  quota.actingAs('admin')
  quota.subject(`user-${at % 500}`)
  await quota.usage('ana')
}
let at = 0
const round = async () => {
  for (const until = at + ROUND; at < until; at++) {
    // Most are answered at once, as they mostly are.
    await kinds[at % 97 < 92 ? at % 3 : at % kinds.length](at)
    // The store remembers for a day what became of a reservation, so that there are not many.
    if (at % 10_000 === 0) await rare(at)
    if (at % 1_000 === 0) await setImmediate()
  }
  for (let turn = 0; turn < 20; turn++) {
    globalThis.gc?.()
    await setImmediate()
  }
  const { rss, heapTotal, heapUsed } = process.memoryUsage()
  // Not the room that V8 keeps for itself, which it widens at will.
  return (rss - heapTotal + heapUsed) / 2 ** 20
}
await round()
const before = await round()
let after = before
while (at < CALLS) after = await round()

await quota.close()
await heardOf.close()
console.log(JSON.stringify({ before, after, heard }))
