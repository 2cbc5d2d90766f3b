// From a token to whom it speaks for, and on to the whole decision.

import { Buffer } from 'node:buffer'

import { fromMemory, subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError } from './measure.mjs'
import { quickTokenCache, tokenCache, tokenCacheLimited } from './peers.mjs'

/** As long as a JWT. */
const LENGTH = 800

/** One token in so many was never seen: 95 of 100 are in the cache. */
const NEW_EVERY = 20

/** Beside the cache that one writes by hand, whose misses have the same to verify. */
export async function * tokens (scale, quota) {
  const ids = subjects(scale.subjects)
  for (const [what, asks] of [['all known', new Tokens(ids, 0)], ['95 % known', new Tokens(ids, NEW_EVERY)]]) {
    const peers = [tokenCache(asks, { ratioMax: 1 / 3 }), ...quickTokenCache(asks)]
    const ours = authenticating(quota, asks)
    yield await measured({ what: `authenticate 800 bytes, ${what}`, ours, peers, usMax: 1.8 }, scale)
    const contenders = { ours: admitting(quota, asks), peers: [tokenCacheLimited(asks)] }
    yield await measured({ what: `admit by 800 bytes, ${what}`, ...contenders, watch: () => fromMemory(quota) }, scale)
  }
}

/** A token of each subject, the same for all up to its end; and new ones among them. */
class Tokens extends Asks {
  #newEvery
  #number = 0

  constructor (ids, newEvery) {
    super(ids.map(id => flat(`${'x'.repeat(LENGTH - 1 - id.length)}.${id}`)), uniform(ids.length))
    this.#newEvery = newEvery
  }

  some (count) {
    const tokens = super.some(count)
    if (this.#newEvery === 0) return tokens
    for (let place = 0; place < tokens.length; place += this.#newEvery) {
      tokens[place] = flat(`${String(this.#number++).padStart(9, '0')}${tokens[place].slice(9)}`)
    }
    return tokens
  }
}

/** The same text in one piece, as the parser of a request leaves it. */
function flat (text) {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** Whom it speaks for, and no more. */
function authenticating (quota, asks) {
  const loop = async tokens => {
    for (const token of tokens) {
      if (await quota.authenticate(token) === null) throw new UnexpectedError(token)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** The whole flow, from a token to the quotas. */
function admitting (quota, asks) {
  const loop = async tokens => {
    for (const token of tokens) {
      if (!(await quota.admit({ token, rate: 'api', costs: { searches: 1 } })).allowed) throw new UnexpectedError(token)
    }
  }
  return { name: 'quotum', loop, asks }
}
