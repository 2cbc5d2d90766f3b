// The whole decision: subscription, plan, and quotas of a day and a month.

import { Quota } from 'quotum'

import { fromMemory, PLANS, subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError, zipf } from './measure.mjs'
import { flexible, flexibleUnion } from './peers.mjs'

/** Beside a limiter that decides on a rate alone, and beside two of it, which count as often. */
export async function * decisions (scale, quota) {
  const ids = subjects(scale.subjects)
  const evenly = new Asks(ids, uniform(ids.length))
  const compare = (what, quota, ours, goals = {}) => {
    const peers = [flexible(ours.asks, { ratioMax: goals.ratioMax }), flexibleUnion(ours.asks)]
    return measured({ what, ours, peers, usMax: goals.usMax, watch: () => fromMemory(quota) }, scale)
  }
  const [try_, await_] = [{ usMax: 0.3 }, { usMax: 0.5, ratioMax: 1 / 3 }]

  yield await compare('tryConsume, leased from SQLite', quota, trying(quota, evenly), try_)
  yield await compare('await consume, leased', quota, consuming(quota, evenly), await_)
  const unevenly = new Asks(ids, zipf(ids.length))
  yield await compare('tryConsume, leased, zipf', quota, trying(quota, unevenly), try_)
  yield await compare('await consume, leased, zipf', quota, consuming(quota, unevenly), await_)
  const hot = new Asks(ids.slice(0, 1), evenly.some(Infinity).map(() => 0))
  yield await compare('tryConsume, leased, one subject', quota, trying(quota, hot), try_)
  yield await compare('await consume, leased, one subject', quota, consuming(quota, hot), await_)

  const handles = new Map(ids.map(id => [id, quota.subject(id)]))
  yield await handled('tryConsume, leased, by a handle', tryingHandles)
  yield await handled('await consume, leased, by a handle', consumingHandles)
  yield await compare('tryAdmit a rate and a search', quota, tryingBoth(quota, evenly))
  yield await compare('await admit a rate and a search', quota, admitting(quota, evenly))

  const inMemory = await Quota.open('memory:', { plans: PLANS })
  yield await compare('tryConsume, memory store', inMemory, trying(inMemory, evenly), try_)
  yield await compare('await consume, memory store', inMemory, consuming(inMemory, evenly), await_)
  await inMemory.close()

  function handled (what, contender) {
    const ours = contender(new Asks(ids.map(id => handles.get(id)), uniform(ids.length)))
    const peers = [flexible(evenly), flexibleUnion(evenly)]
    return measured({ what, ours, peers, watch: () => fromMemory(quota) }, scale)
  }
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

function tryingHandles (asks) {
  const loop = async handles => {
    for (const subject of handles) {
      const decision = subject.tryConsume({ searches: 1 }) ?? await subject.consume({ searches: 1 })
      if (!decision.allowed) throw new UnexpectedError(subject.id)
    }
  }
  return { name: 'quotum', loop, asks }
}

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

function admitting (quota, asks) {
  const loop = async ids => {
    for (const subject of ids) {
      if (!(await quota.admit({ subject, rate: 'api', costs: { searches: 1 } })).allowed) throw new UnexpectedError(subject)
    }
  }
  return { name: 'quotum', loop, asks }
}
