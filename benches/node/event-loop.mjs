// The event loop: how late it is while charges are made, and whether awaiting an answer from memory turns it.

import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'

import { Quota } from 'quotum'

import { folders, PLANS, subjects } from './engine.mjs'
import { Asks, median, row, uniform, UnexpectedError } from './measure.mjs'
import { CALLERS, charging, raw } from './sqlite-charges.mjs'

/** How many charges there are in all. */
const CHARGES = 50_000
const ROUNDS = 5

/** How much later than an idle loop's the 99th of 100 turns may be: what is left is the noise of a shared machine. */
const LATER_MS_MAX = 1

/** Beside a loop that has nothing to do, and one in which as many charges are made without awaiting. */
export async function * eventLoop (scale, quota) {
  const ids = subjects(scale.subjects)
  const asks = new Asks(ids, uniform(ids.length))
  for await (const folder of folders()) {
    const exact = await Quota.open(`sqlite:${join(folder, 'quota.db')}`, { plans: PLANS, lease: 'off' })
    const { charge, close } = raw(join(folder, 'raw.db'))
    const { loop } = charging(exact, asks, CALLERS)
    await loop(ids)
    const rounds = []
    for (let number = 0; number < ROUNDS; number++) {
      const some = asks.some(CHARGES / ROUNDS * scale.part)
      const begin = performance.now()
      const load = await p99Us(() => loop(some))
      const idle = await p99Us(() => pause(performance.now() - begin))
      rounds.push({ load, idle, blocking: await p99Us(() => inTurns(charge, some)) })
    }
    close()
    await exact.close()
    yield { rows: rows(rounds), notes: [] }
  }
  yield { rows: [], notes: [await turns(quota, ids)] }
}

function rows (rounds) {
  const what = `event loop delay p99, ${CALLERS} at once`
  const beside = (name, peer) => row(what, rounds.map(round => [round.load, round[peer]]), { name })
  const idle = beside('an idle loop', 'idle')
  const laterMs = median(rounds.map(({ load, idle }) => load - idle)) / 1_000
  const text = `<= ${LATER_MS_MAX} ms later than idle`
  idle.goals.push({ what, text, found: `${laterMs.toFixed(2)} ms`, isMet: laterMs <= LATER_MS_MAX })
  return [idle, beside('better-sqlite3, 64 in each turn', 'blocking')]
}

/** The delay of the loop in 99 of 100 samples, one of them each millisecond, which is in it. */
async function p99Us (work) {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  await work()
  delay.disable()
  return delay.percentile(99) / 1_000
}

/** As many charges in each turn as there are callers. */
async function inTurns (charge, ids) {
  for (let place = 0; place < ids.length; place += CALLERS) {
    ids.slice(place, place + CALLERS).forEach(charge)
    await turn()
  }
}

/** How often the loop turned while these were awaited: an answer that was waited for would have turned it. */
async function turns (quota, ids) {
  let turns = 0
  let turning = setImmediate(function again () {
    turns++
    turning = setImmediate(again)
  })
  for (const id of ids) {
    if (!(await quota.consume(id, { searches: 1 })).allowed) throw new UnexpectedError(id)
  }
  clearImmediate(turning)
  return `${turns} turns of the event loop in ${ids.length.toLocaleString('en')} awaits of consume, leased`
}
