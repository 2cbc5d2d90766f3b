// Several threads and processes on one store: exactly the limit passes.
import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

import { Quota } from 'quotum'

const LIMIT = 2_000
const WORKER = new URL('./worker.mjs', import.meta.url)

const plansWith = lease => ({ default_plan: 'a', plans: { a: { quotas: { units: `${LIMIT}/total` }, lease: { units: lease } } } })

let folder
before(() => { folder = mkdtempSync(join(tmpdir(), 'quotum-workers-')) })
after(() => rmSync(folder, { recursive: true }))

/** What the store says was used, once every block has been returned. */
async function used (url, plans) {
  const quota = await Quota.open(url, { plans })
  const [units] = (await quota.usage('team')).quotas
  await quota.close()
  return [units.used, units.stranded]
}

const sum = numbers => numbers.reduce((total, number) => total + number, 0)

for (const [lease, name] of [['off', 'one by one'], [{ max: 100 }, 'from leased blocks']]) {
  test(`a cluster of four processes on one SQLite file grants exactly the limit, ${name}`, async () => {
    const plans = plansWith(lease)
    const url = `sqlite:${folder}/cluster-${name}.db`
    cluster.setupPrimary({ exec: fileURLToPath(WORKER) })
    const work = JSON.stringify({ url, plans, callers: 8, subject: 'team' })
    const workers = Array.from({ length: 4 }, () => cluster.fork({ WORK: work }))
    const granted = await Promise.all(workers.map(async worker => {
      const [[total], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
      assert.equal(code, 0)
      return total
    }))
    assert.equal(sum(granted), LIMIT, granted.join(' + '))
    assert.deepEqual(await used(url, plans), [LIMIT, 0])
  })

  test(`four worker threads on one SQLite file grant exactly the limit, ${name}`, async () => {
    const plans = plansWith(lease)
    const url = `sqlite:${folder}/threads-${name}.db`
    const workers = Array.from({ length: 4 }, () => new Worker(WORKER, { workerData: { url, plans, callers: 8, subject: 'team' } }))
    const granted = await Promise.all(workers.map(async worker => {
      const [[total], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
      assert.equal(code, 0)
      return total
    }))
    assert.equal(sum(granted), LIMIT, granted.join(' + '))
    assert.deepEqual(await used(url, plans), [LIMIT, 0])
  })
}

describe('a worker thread', () => {
  const started = async text => {
    const worker = new Worker(text, { eval: true, env: process.env })
    await once(worker, 'message')
    return worker
  }
  const busy = `
    const { parentPort } = require('node:worker_threads')
    const { Quota } = require(${JSON.stringify(fileURLToPath(import.meta.resolve('quotum')))})
    Quota.open('sqlite:' + ${JSON.stringify(join(tmpdir(), 'unused'))}, {}).catch(() => {})
    Quota.open('memory:', {
      plans: { default_plan: 'a', plans: { a: { quotas: { units: '5/total', pings: 'unlimited' } } } },
      verifier: () => new Promise(() => {}),
      onEvent: () => {},
    }).then(quota => {
      quota.authenticate('some token').catch(() => {})
      setInterval(() => { for (let at = 0; at < 100; at++) { quota.consume('ana', { pings: 1 }); quota.consume('ana', { units: 1 }) } }, 0)
      parentPort.postMessage('started')
    })
  `

  test('that is terminated in the middle of everything harms no other', async () => {
    for (let at = 0; at < 10; at++) {
      const worker = await started(busy)
      await setTimeout(at)
      await worker.terminate()
    }
    const quota = await Quota.open('memory:', { plans: plansWith('off') })
    assert.equal((await quota.consume('team', { units: 1 })).allowed, true)
    await quota.close()
  })

  test('that throws ends, and returns what it has leased', async () => {
    const plans = plansWith({ max: 100 })
    const url = `sqlite:${folder}/throwing.db`
    const worker = new Worker(`
      const { Quota } = require(${JSON.stringify(fileURLToPath(import.meta.resolve('quotum')))})
      Quota.open(${JSON.stringify(url)}, { plans: ${JSON.stringify(plans)} }).then(async quota => {
        for (let at = 0; at < 10; at++) await quota.consume('team', { units: 1 })
        throw new Error('the worker fails')
      })
    `, { eval: true })
    const [error] = await once(worker, 'error')
    assert.match(error.message, /the worker fails/)
    assert.deepEqual(await used(url, plans), [10, 0])
  })
})
