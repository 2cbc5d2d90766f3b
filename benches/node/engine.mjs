// The engines that are measured: their plans, and how they come to grant from memory.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Quota } from 'quotum'

import { together, UnexpectedError } from './measure.mjs'

/** Everything is allowed for ever, but for a second trial. */
export const PLANS = {
  default_plan: 'all',
  plans: {
    all: {
      quotas: {
        searches: ['1000000000/day', '1000000000/month'],
        calls: '1000000000/month',
        trials: '1/month',
      },
      rates: { api: '1000000000/minute' },
    },
  },
}

/** A subject is granted from a block once it has asked eight times. */
const REQUESTS_BEFORE_LEASE = 9

// Blocks and subscriptions last for as long as a run, so that every comparison finds in memory what the first one did. By
// default a subscription is read again every 30 seconds, and its subject then waits for the store once.
const LASTING = { lease: { max: 1_000_000, ttlS: 1_800 }, subscriptionTtlMs: 1_800_000 }

export const TOKENS_MAX = 40_000

/** Their ids. */
export function subjects (count) {
  return Array.from({ length: count }, (_, number) => `user:${number}`)
}

/** Whom a token speaks for: its end says so. What a host does here, it does as often beside every peer. */
export function verified (token) {
  return { subject: token.slice(token.lastIndexOf('.') + 1) }
}

/** An engine that has leased a block of searches for each of these subjects. Whoever opens it closes it. */
export async function leased (url, ids) {
  const quota = await Quota.open(url, { plans: PLANS, verifier: verified, tokensMax: TOKENS_MAX, ...LASTING })
  const ask = async subject => {
    for (let asked = 0; asked < REQUESTS_BEFORE_LEASE; asked++) {
      if (!(await quota.consume(subject, { searches: 1 })).allowed) throw new UnexpectedError(subject)
    }
  }
  await together(ask, 64)(ids)
  return quota
}

/** What part of the decisions from now on was answered from memory, by the engine's own account. */
export function fromMemory (quota) {
  const before = decisions(quota)
  return () => {
    const now = decisions(quota)
    const [memory, store] = [now.memory - before.memory, now.store - before.store]
    const percent = (100 * memory / (memory + store)).toFixed(2)
    return `${percent} % of ${(memory + store).toLocaleString('en')} decisions answered from memory`
  }
}

function decisions (quota) {
  const counts = { memory: 0, store: 0 }
  for (const [, path, count] of quota.metrics().matchAll(/^quotum_decision_duration_seconds_count\{path="(\w+)"\} (\d+)/gm)) {
    counts[path] = Number(count)
  }
  return counts
}

/** A folder that is gone when the loop over it ends, however it ends. */
export async function * folders () {
  const folder = await mkdtemp(join(tmpdir(), 'quotum-bench-'))
  try {
    yield folder
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
