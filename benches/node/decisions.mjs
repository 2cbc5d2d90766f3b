// The whole decision: subscription, plan, and quotas of a day and a month.

import { Quota } from 'quotum'

import { fromMemory, PLANS, subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError, zipf } from './measure.mjs'
import { flexible, flexibleUnion } from './peers.mjs'

/** Beside a limiter that decides on a rate alone, and beside two of it, which count as often. */
export async function * decisions (scale, quota) {
  const ids = subjects(scale.subjects)
  const evenly = new Asks(ids, uniform(ids.length))
  const unevenly = new Asks(ids, zipf(ids.length))
  const hot = new Asks(ids.slice(0, 1), uniform(1))
  const handles = new Asks(ids.map(id => quota.subject(id)), uniform(ids.length))
  const atOnce = { usMax: 0.3 }
  const awaited = { usMax: 0.5, ratioMax: 1 / 3 }

  const compare = (what, ours, { usMax, ratioMax } = {}, engine = quota, asks = ours.asks) => {
    const peers = [flexible(asks, { ratioMax }), flexibleUnion(asks)]
    return measured({ what, ours, peers, usMax, watch: () => fromMemory(engine) }, scale)
  }
  yield await compare('tryConsume, leased from SQLite', trying(quota, evenly), atOnce)
  yield await compare('await consume, leased', consuming(quota, evenly), awaited)
  yield await compare('tryConsume, leased, zipf', trying(quota, unevenly), atOnce)
  yield await compare('await consume, leased, zipf', consuming(quota, unevenly), awaited)
  yield await compare('tryConsume, leased, one subject', trying(quota, hot), atOnce)
  yield await compare('await consume, leased, one subject', consuming(quota, hot), awaited)
  yield await compare('tryConsume, leased, by a handle', tryingHandles(handles), atOnce, quota, evenly)
  yield await compare('await consume, leased, by a handle', consumingHandles(handles), awaited, quota, evenly)
  yield await compare('tryAdmit a rate and a search', tryingBoth(quota, evenly))
  yield await compare('await admit a rate and a search', admittingBoth(quota, evenly))

  const inMemory = await Quota.open('memory:', { plans: PLANS })
  yield await compare('tryConsume, memory store', trying(inMemory, evenly), atOnce, inMemory)
  yield await compare('await consume, memory store', consuming(inMemory, evenly), awaited, inMemory)
  await inMemory.close()
}

/** One search, of two quotas, at once; where memory cannot tell, by the store. */
export function trying (quota, asks) {
  const loop = async ids => {
    for (const id of ids) {
      const decision = quota.tryConsume(id, { searches: 1 }) ?? await quota.consume(id, { searches: 1 })
      if (!decision.allowed) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** The same, awaited. */
export function consuming (quota, asks) {
  const loop = async ids => {
    for (const id of ids) {
      if (!(await quota.consume(id, { searches: 1 })).allowed) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** The same as `trying`, by whoever keeps a handle of the subject. */
function tryingHandles (asks) {
  const loop = async handles => {
    for (const subject of handles) {
      const decision = subject.tryConsume({ searches: 1 }) ?? await subject.consume({ searches: 1 })
      if (!decision.allowed) throw new UnexpectedError(subject.id)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** The same, awaited. */
function consumingHandles (asks) {
  const loop = async handles => {
    for (const subject of handles) {
      if (!(await subject.consume({ searches: 1 })).allowed) throw new UnexpectedError(subject.id)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** What a middleware asks: a rate and a quota, all or nothing. */
function tryingBoth (quota, asks) {
  const loop = async ids => {
    for (const subject of ids) {
      const request = { subject, rate: 'api', costs: { searches: 1 } }
      if (!(quota.tryAdmit(request) ?? await quota.admit(request)).allowed) throw new UnexpectedError(subject)
    }
  }
  return { name: 'quotum', loop, asks }
}

/** The same, awaited. */
function admittingBoth (quota, asks) {
  const loop = async ids => {
    for (const subject of ids) {
      if (!(await quota.admit({ subject, rate: 'api', costs: { searches: 1 } })).allowed) throw new UnexpectedError(subject)
    }
  }
  return { name: 'quotum', loop, asks }
}
