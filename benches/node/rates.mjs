// The rate alone: what limiters do, and a part of what Quotum does.

import { subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError, zipf } from './measure.mjs'
import { expressStore, flexible } from './peers.mjs'

/** By key, and by subject, beside limiters in JavaScript. */
export async function * rates (scale, quota) {
  const keys = subjects(scale.subjects)
  for (const [name, picks] of Object.entries({ uniform, zipf })) {
    const asks = new Asks(keys, picks(keys.length))
    for (const ours of [limiting(quota, asks), trying(quota, asks), admitting(quota, asks)]) {
      yield await measured({ what: `${ours.name}, ${name}`, ours, peers: [flexible(asks), expressStore(asks)] }, scale)
    }
  }
}

/** The limiter alone, for keys that need be no subjects. */
function limiting (quota, asks) {
  const loop = async keys => {
    for (const key of keys) {
      if (!(await quota.rate('api', key)).allowed) throw new UnexpectedError(key)
    }
  }
  return { name: 'await rate', loop, asks }
}

/** The flow with nothing but a rate, at once. */
function trying (quota, asks) {
  const loop = async keys => {
    for (const subject of keys) {
      const request = { subject, rate: 'api' }
      if (!(quota.tryAdmit(request) ?? await quota.admit(request)).allowed) throw new UnexpectedError(subject)
    }
  }
  return { name: 'tryAdmit a rate', loop, asks }
}

/** The same, awaited. */
function admitting (quota, asks) {
  const loop = async keys => {
    for (const subject of keys) {
      if (!(await quota.admit({ subject, rate: 'api' })).allowed) throw new UnexpectedError(subject)
    }
  }
  return { name: 'await admit a rate', loop, asks }
}
