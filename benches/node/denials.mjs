// Denials that are known: every second subject has used up what it asks for again.

import { fromMemory, subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError } from './measure.mjs'
import { flexibleAtLimit } from './peers.mjs'

/** Half of all asked are denied, beside a limiter of which half of the keys are at the limit. */
export async function * denials (scale, quota) {
  const ids = subjects(scale.subjects)
  const asks = new Asks(ids, uniform(ids.length))
  const exhausted = new Set(ids.filter((_, number) => number % 2 === 1))
  const isDenied = id => exhausted.has(id)
  for (const id of exhausted) {
    // Allowed, then denied by the store, which is remembered.
    for (let asked = 0; asked < 2; asked++) await quota.consume(id, { trials: 1 })
  }
  for (const [what, ours] of [['tryConsume, half denied', trying], ['await consume, half denied', consuming]]) {
    const contenders = { ours: ours(quota, asks, isDenied), peers: [await flexibleAtLimit(asks, isDenied)] }
    yield await measured({ what, ...contenders, watch: () => fromMemory(quota) }, scale)
  }
}

function trying (quota, asks, isDenied) {
  const loop = async ids => {
    for (const id of ids) {
      const isExhausted = isDenied(id)
      const costs = isExhausted ? { trials: 1 } : { searches: 1 }
      const decision = quota.tryConsume(id, costs) ?? await quota.consume(id, costs)
      if (decision.allowed === isExhausted) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}

function consuming (quota, asks, isDenied) {
  const loop = async ids => {
    for (const id of ids) {
      const isExhausted = isDenied(id)
      const decision = await quota.consume(id, isExhausted ? { trials: 1 } : { searches: 1 })
      if (decision.allowed === isExhausted) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}
