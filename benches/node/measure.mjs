// Measures contenders in turn: what a call takes of each, and how that compares.
//
// What makes the figures worth believing:
//
// - Contenders take turns within each round, and every second round goes backwards. A machine whose clock swings is as slow
//   for one as for the other, so that ratios of one run can be trusted where microseconds of two runs cannot.
// - A ratio is the median of the rounds' own ratios, and a time the median of the rounds' times.
// - Every key is asked for once before the clock starts, and what is asked for while it runs is prepared before.
// - A contender's loop is written out for it: no function of ours stands between the loop and the call, but where many calls
//   are made at once.
// - Every answer is looked at: a loop that gets another one than it should ends the run.
// - The garbage collector runs as it does in a backend, but nobody starts with the garbage of the one before.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** What the generator starts from, in every run and in the benchmarks in Rust and Python. */
export const SEED = 0x5155_4F54_554D_0001n

/** The most calls of one pass. */
const OPS_MAX = 1 << 17
const OPS_MIN = 64

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')

/** An answer that would make the figures worthless. */
export class UnexpectedError extends Error {}

/** The generator of Vigna's splitmix64. */
class Random {
  #state = SEED

  /** 64 bits. */
  next () {
    this.#state = BigInt.asUintN(64, this.#state + 0x9E37_79B9_7F4A_7C15n)
    let mixed = this.#state
    mixed = BigInt.asUintN(64, (mixed ^ mixed >> 30n) * 0xBF58_476D_1CE4_E5B9n)
    mixed = BigInt.asUintN(64, (mixed ^ mixed >> 27n) * 0x94D0_49BB_1331_11EBn)
    return mixed ^ mixed >> 31n
  }

  /** A whole number from 0 to count - 1. */
  below (count) {
    return Number(this.next() * BigInt(count) >> 64n)
  }

  /** From 0 to just below 1. */
  fraction () {
    return Number(this.next() >> 11n) / 2 ** 53
  }
}

/** Which key each call of a pass asks for: any, all as likely. */
export function uniform (keys) {
  const random = new Random()
  return Array.from({ length: OPS_MAX }, () => random.below(keys))
}

/** Which key each call of a pass asks for: by Zipf's law with an exponent of 0.99, its ranks permuted. */
export function zipf (keys) {
  const random = new Random()
  let sum = 0
  const sums = Float64Array.from({ length: keys }, (_, rank) => sum += (rank + 1) ** -0.99)
  const ofRank = Array.from({ length: keys }, (_, key) => key)
  for (let index = keys - 1; index > 0; index--) {
    const other = random.below(index + 1);
    [ofRank[index], ofRank[other]] = [ofRank[other], ofRank[index]]
  }
  return Array.from({ length: OPS_MAX }, () => ofRank[placeIn(sums, random.fraction() * sum)])
}

/** Where the first of the sums is that is not below. */
function placeIn (sums, sought) {
  let [low, high] = [0, sums.length - 1]
  while (low < high) {
    const middle = low + high >> 1
    if (sums[middle] < sought) low = middle + 1
    else high = middle
  }
  return low
}

/** What a contender is asked for. */
export class Asks {
  #picked

  constructor (every, picks) {
    this.every = every
    this.#picked = picks.map(pick => every[pick])
  }

  /** What the calls of one pass ask for. Called before the clock starts. */
  some (count) {
    return this.#picked.slice(0, count)
  }
}

/** The same calls, made by so many callers at once. */
export function together (ask, callers) {
  return async keys => {
    let next = 0
    const caller = async () => {
      while (next < keys.length) await ask(keys[next++])
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }
}

/**
 * Measures a comparison, which is `{ what, ours, peers, usMax, watch }`: a row for each peer, and what was seen.
 *
 * A contender is `{ name, loop, asks, ratioMax }`: a loop that makes one call for each thing it is given, and the goal beside
 * a peer, which is how many times as long as it we take at most. `usMax` is the goal for ours alone, in microseconds. `watch`
 * begins to watch when all are warm, and returns what tells at the end what there was to see. Goals are data: no run fails on
 * one.
 */
export async function measured ({ what, ours, peers, usMax, watch }, scale) {
  const turns = []
  for (const [index, contender] of [ours, ...peers].entries()) {
    turns.push({ index, contender, count: await warmed(contender, scale) })
  }
  const seen = watch?.()
  const rounds = []
  for (let number = 0; number < scale.rounds; number++) {
    const tookUs = []
    for (const { index, contender, count } of number % 2 === 0 ? turns : turns.toReversed()) {
      tookUs[index] = await passMs(contender, count) / count * 1_000
    }
    rounds.push(tookUs)
  }
  const rows = peers.map((peer, index) => {
    const both = rounds.map(tookUs => [tookUs[0], tookUs[index + 1]])
    return row(what, both, peer, index === 0 ? usMax : undefined)
  })
  return { rows, notes: seen === undefined ? [] : [seen()] }
}

/** Ours beside one peer, of the rounds' times of both. */
export function row (what, rounds, { name: peer, ratioMax }, usMax) {
  const oursUs = median(rounds.map(([ours]) => ours))
  const ratio = median(rounds.map(([ours, peer]) => ours / peer))
  const goals = []
  if (usMax !== undefined) goals.push({ what, text: `<= ${usMax} us`, found: `${oursUs.toFixed(3)} us`, isMet: oursUs <= usMax })
  if (ratioMax !== undefined) {
    const text = `<= ${Number(ratioMax.toFixed(3))}x of ${peer}`
    goals.push({ what, text, found: `${ratio.toFixed(3)}x`, isMet: ratio <= ratioMax })
  }
  return { what, oursUs, peer, peerUs: median(rounds.map(([, peer]) => peer)), ratio, goals }
}

export function median (numbers) {
  const sorted = numbers.toSorted((one, other) => one - other)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Asks once for every key, and finds how many calls take as long as a pass is to take. */
async function warmed (contender, scale) {
  await contender.loop(contender.asks.every)
  let count = OPS_MIN
  for (;;) {
    const tookMs = await passMs(contender, count)
    if (tookMs >= scale.passMs / 4 || count === OPS_MAX) {
      return Math.max(OPS_MIN, Math.min(OPS_MAX, Math.floor(count * scale.passMs / tookMs)))
    }
    count = Math.min(OPS_MAX, count * 4)
  }
}

async function passMs (contender, count) {
  const asks = contender.asks.some(count)
  collect()
  const begin = performance.now()
  await contender.loop(asks)
  return performance.now() - begin
}
