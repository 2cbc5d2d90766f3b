// Denials that are known: every second subject has used up what it asks for again.

import { fromMemory, subjects } from './engine.mjs'
import { Asks, measured, uniform, UnexpectedError } from './measure.mjs'
import { flexibleAtLimit } from './peers.mjs'

/** Half of all that is asked is denied, beside a limiter of which half of the keys are at the limit. */
export async function * denials (scale, quota) {
  const every = subjects(scale.subjects).map((id, number) => ({ id, isDenied: number % 2 === 1 }))
  const asks = new Asks(every, uniform(every.length))
  for (const { id, isDenied } of every) {
    // Allowed, then denied by the store, which is remembered.
    for (let asked = 0; isDenied && asked < 2; asked++) await quota.consume(id, { trials: 1 })
  }
  for (const [what, ours] of [['tryConsume, half denied', trying], ['await consume, half denied', consuming]]) {
    const contenders = { ours: ours(quota, asks), peers: [await flexibleAtLimit(asks)] }
    yield await measured({ what, ...contenders, watch: () => fromMemory(quota) }, scale)
  }
}

function trying (quota, asks) {
  const loop = async asked => {
    for (const { id, isDenied } of asked) {
      const costs = isDenied ? { trials: 1 } : { searches: 1 }
      const decision = quota.tryConsume(id, costs) ?? await quota.consume(id, costs)
      if (decision.allowed === isDenied) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}

function consuming (quota, asks) {
  const loop = async asked => {
    for (const { id, isDenied } of asked) {
      const decision = await quota.consume(id, isDenied ? { trials: 1 } : { searches: 1 })
      if (decision.allowed === isDenied) throw new UnexpectedError(id)
    }
  }
  return { name: 'quotum', loop, asks }
}
