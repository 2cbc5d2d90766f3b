// A backend's plans, engine and tokens, for the tests of every web framework.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request as requestOf } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { ManualClock, Quota } from 'quotum'

export const PLANS = {
  default_plan: 'free',
  rates: { login: '2/minute' },
  plans: {
    free: {
      features: { excel: false, history_days: 30 },
      quotas: { searches: '3/day', tokens: '1000/day' },
      rates: { api: '5/minute' },
    },
    pro: {
      rank: 1,
      features: { excel: true, history_days: 365 },
      quotas: { searches: '50/day', tokens: '100000/day' },
      rates: { api: '5/minute' },
    },
  },
}
export const NOON = new Date('2026-01-15T12:00:00Z')
export const ANA = { authorization: 'Bearer key-of-ana' }

export const verifier = token => token.startsWith('key-of-') ? token.slice('key-of-'.length) : null

/** Opens an engine in a folder of its own, and closes it when a test has ended. */
export async function engine (t, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'quotum-'))
  const clock = new ManualClock(NOON)
  const quota = await Quota.open(`sqlite:${folder}/quota.db`, { plans: PLANS, verifier, clock, ...options })
  t.after(async () => {
    await quota.close()
    rmSync(folder, { recursive: true })
  })
  return quota
}

/** An engine whose store cannot tell who subscribes to what. */
export async function brokenEngine (t) {
  const quota = await Quota.open('memory:', {
    plans: PLANS, verifier, breaker: false, subscriptions: () => { throw new Error('db-7.internal is down') },
  })
  t.after(() => quota.close())
  return quota
}

/** Serves until a test has ended. Returns where. */
export async function serve (t, listener) {
  const server = createServer(listener)
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${server.address().port}`
}

export async function tokensOf (quota, subject = 'ana') {
  const { quotas } = await quota.usage(subject)
  return quotas.find(state => state.metric === 'tokens')
}

const kept = []

/** Keeps a reservation from being collected as garbage, which would give it back too. */
export function keep (reservation) {
  kept.push(reservation)
  return reservation
}

/** Waits until nothing is held, and returns how many tokens are used then. */
export async function usedOnceNothingIsHeld (quota) {
  for (let waited = 0; ; waited += 10) {
    const { used, held } = await tokensOf(quota)
    if (held === 0) return used
    assert.ok(waited < 10_000, 'what was reserved is held for ever')
    await sleep(10)
  }
}

/** Asks, and goes away once the first part of the answer is there. Returns that part. */
export function firstPart (url, options = {}) {
  return new Promise((resolve, reject) => {
    const request = requestOf(url, options, response => {
      response.once('error', () => {})
      response.once('data', part => {
        response.destroy()
        resolve(String(part))
      })
    })
    request.once('error', reject)
    request.end(options.body)
  })
}

/** Which limits a response tells of. */
export function limitsOf (response, name = 'ratelimit') {
  const told = response.headers instanceof Headers ? response.headers.get(name) : response.headers[name]
  return [told ?? []].flat().join(', ').split(', ').filter(Boolean).map(limit => limit.split(';')[0])
}

/** Warnings of the process while something is done. */
export async function warningsOf (act) {
  const warnings = []
  const note = warning => warnings.push(warning.message)
  process.on('warning', note)
  await act()
  await sleep(0)
  process.off('warning', note)
  return warnings
}
