// The peers, each set up as its documentation says, with a limit that nobody reaches.

import * as crypto from 'node:crypto'

import { MemoryStore } from 'express-rate-limit'
import { LRUCache } from 'lru-cache'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterUnion } from 'rate-limiter-flexible'

import { TOKENS_MAX, verified } from './engine.mjs'
import { together, UnexpectedError } from './measure.mjs'

const LIMIT = 1_000_000_000

const MINUTE_S = 60
const DAY_S = 86_400

/** rate-limiter-flexible in memory: one window. */
export function flexible (asks, { ratioMax } = {}) {
  return consuming('rate-limiter-flexible', new RateLimiterMemory({ points: LIMIT, duration: MINUTE_S }), asks, ratioMax)
}

/** Two windows of it. The longer one is of a week: it has a timer for each key, which reaches no farther than 24 days. */
export function flexibleUnion (asks, { ratioMax } = {}) {
  const limiter = new RateLimiterUnion(
    new RateLimiterMemory({ keyPrefix: 'day', points: LIMIT, duration: DAY_S }),
    new RateLimiterMemory({ keyPrefix: 'week', points: LIMIT, duration: 7 * DAY_S }),
  )
  return consuming('rate-limiter-flexible, union of two', limiter, asks, ratioMax)
}

function consuming (name, limiter, asks, ratioMax) {
  const loop = async keys => {
    for (const key of keys) {
      if (!await limiter.consume(key)) throw new UnexpectedError(key)
    }
  }
  return { name, loop, asks, ratioMax }
}

/** rate-limiter-flexible on Redis: `callers` ask at once. */
export function flexibleOnRedis (client, asks, callers) {
  const limiter = new RateLimiterRedis({ storeClient: client, points: LIMIT, duration: MINUTE_S })
  const name = 'rate-limiter-flexible on Redis'
  if (callers === 1) return consuming(name, limiter, asks)
  const ask = async key => {
    if (!await limiter.consume(key)) throw new UnexpectedError(key)
  }
  return { name, loop: together(ask, callers), asks }
}

/** rate-limiter-flexible in memory, with some keys at their limit. */
export async function flexibleAtLimit (asks) {
  const limiter = new RateLimiterMemory({ points: LIMIT, duration: DAY_S })
  for (const { id, isDenied } of asks.every) {
    if (isDenied) await limiter.block(id, DAY_S)
  }
  const loop = async asked => {
    for (const { id, isDenied } of asked) {
      let isAllowed = true
      try {
        await limiter.consume(id)
      } catch {
        isAllowed = false
      }
      if (isAllowed === isDenied) throw new UnexpectedError(id)
    }
  }
  return { name: 'rate-limiter-flexible, at its limit', loop, asks }
}

/** The store of express-rate-limit, without express. */
export function expressStore (asks) {
  const store = new MemoryStore()
  store.init({ windowMs: MINUTE_S * 1_000 })
  const loop = async keys => {
    for (const key of keys) {
      if ((await store.increment(key)).totalHits > LIMIT) throw new UnexpectedError(key)
    }
  }
  return { name: 'express-rate-limit, MemoryStore', loop, asks }
}

/** A bounded cache by the digest of the whole token, as one writes it. A hit is not awaited. */
function cacheByHand (digest) {
  const cache = new LRUCache({ max: TOKENS_MAX, ttl: 300_000 })
  return token => {
    const key = digest(token)
    const known = cache.get(key)
    if (known !== undefined) return known
    const found = verified(token)
    cache.set(key, found)
    return found
  }
}

const byHash = token => crypto.createHash('sha256').update(token).digest('hex')

/** That cache. */
export function tokenCache (asks, { ratioMax } = {}) {
  return finding('createHash + lru-cache', cacheByHand(byHash), asks, ratioMax)
}

/** The same with the digest in one call, where Node has it: since 20.12. */
export function quickTokenCache (asks) {
  if (crypto.hash === undefined) return []
  return [finding('crypto.hash + lru-cache', cacheByHand(token => crypto.hash('sha256', token)), asks)]
}

function finding (name, authenticate, asks, ratioMax) {
  const loop = tokens => {
    for (const token of tokens) {
      if (authenticate(token) === undefined) throw new UnexpectedError(token)
    }
  }
  return { name, loop, asks, ratioMax }
}

/** That cache, and a rate for whom it finds. */
export function tokenCacheLimited (asks) {
  const authenticate = cacheByHand(byHash)
  const limiter = new RateLimiterMemory({ points: LIMIT, duration: MINUTE_S })
  const loop = async tokens => {
    for (const token of tokens) {
      if (!await limiter.consume(authenticate(token).subject)) throw new UnexpectedError(token)
    }
  }
  return { name: 'the cache + rate-limiter-flexible', loop, asks }
}
