// Charges on a Redis server of the benchmark's own: each in the server, and leased.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'

import { Redis } from 'ioredis'
import { Quota } from 'quotum'

import { consuming } from './decisions.mjs'
import { folders, fromMemory, leased, PLANS, subjects } from './engine.mjs'
import { Asks, measured, together, uniform, UnexpectedError } from './measure.mjs'
import { flexibleOnRedis } from './peers.mjs'
import { charging } from './sqlite-charges.mjs'

const PROGRAM = 'redis-server'
const CALLERS = 100

/** One caller and many, beside rate-limiter-flexible on the same server. */
export async function * redisCharges (scale) {
  if (spawnSync(PROGRAM, ['--version']).error !== undefined) {
    yield { rows: [], notes: ['no redis-server here: nothing is measured on Redis'] }
    return
  }
  const ids = subjects(scale.subjects)
  const asks = new Asks(ids, uniform(ids.length))
  for await (const port of servers()) {
    const client = new Redis({ host: '127.0.0.1', port })
    const url = `redis://127.0.0.1:${port}`
    const exact = await Quota.open(url, { plans: PLANS, lease: 'off' })
    for (const callers of [1, CALLERS]) {
      const contenders = { ours: charging(exact, asks, callers), peers: [flexibleOnRedis(client, asks, callers)] }
      const what = `exact charge on Redis, ${at(callers)}`
      yield await measured({ what, ...contenders }, scale)
    }
    await exact.close()
    const quota = await leased(url, ids)
    for (const callers of [1, CALLERS]) {
      const contenders = { ours: granting(quota, asks, callers), peers: [flexibleOnRedis(client, asks, callers)] }
      const what = `consume, leased from Redis, ${at(callers)}`
      yield await measured({ what, ...contenders, watch: () => fromMemory(quota) }, scale)
    }
    await quota.close()
    client.disconnect()
  }
}

const at = callers => callers === 1 ? 'one caller' : `${callers} at once`

function granting (quota, asks, callers) {
  const ask = async id => {
    if (!(await quota.consume(id, { searches: 1 })).allowed) throw new UnexpectedError(id)
  }
  return callers === 1 ? consuming(quota, asks) : { name: 'quotum', loop: together(ask, callers), asks }
}

/** The port of a server on loopback that keeps nothing, and is stopped when the loop over it ends. */
async function * servers () {
  for await (const folder of folders()) {
    const port = await freePort()
    const settings = ['--bind', '127.0.0.1', '--port', port, '--dir', folder, '--save', '', '--appendonly', 'no']
    const server = spawn(PROGRAM, settings, { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      let told = ''
      for await (const text of server.stdout.iterator({ destroyOnReturn: false })) {
        told += text
        if (told.includes('Ready to accept connections')) break
      }
      if (server.exitCode !== null) throw new UnexpectedError(told)
      server.stdout.resume()
      yield port
    } finally {
      server.kill()
      await once(server, 'exit')
    }
  }
}

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
