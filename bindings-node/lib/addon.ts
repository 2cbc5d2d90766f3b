// The addon: loads it, and makes this copy of the package at home in its thread.
//
// Nothing here knows a verb. What the addon is asked and answers is JSON; `decide.ts` is the exception.

import { setImmediate } from 'node:timers'

/** The functions of the addon, as `src/` has them. */
interface Addon {
  settleIn(wake: () => void, numbers: Float64Array): number
  moveOut(home: number): void
  settled(home: number): (number | string)[]
  hasMore(home: number): boolean
  cancel(home: number, task: number): void
  open(home: number, options: string): Begun
  ask(home: number, engine: number, text: string): Begun
  decide(home: number, engine: number, who: string | number, how: number, scope: number, costs: number): unknown
  authenticate(home: number, engine: number, token: string): unknown
  pace(home: number, engine: number, scope: number, key: string, isAddress: number): unknown
  numberOf(home: number, name: string): number | null
  nameOf(home: number, number: number): string | null
  dropEngine(home: number, engine: number): void
  dropSubject(home: number, subject: number): void
  dropReservation(home: number, reservation: number): void
  dropClock(home: number, clock: number): void
  makeClock(home: number, now: number): number
  clockNow(home: number, clock: number): number
  advance(home: number, clock: number, ms: number): void
  setWall(home: number, clock: number, now: number): void
  parsePlans(text: string, isToml: boolean): string
  readPlans(home: number, path: string): Begun
  checkMapping(mapping: string): string
  answer(mapping: string, decision: string, now: number): string
  answerError(mapping: string, error: string, now: number): string
  tokenOf(authorization: string[], apiKey: string[]): string | null
  clientAddress(trustedHops: number, peer: string, forwardedFor: string[]): string | null
  checkStore(home: number, make: number): Begun
  calls(home: number): HostCall[]
  answerJson(home: number, call: number, json: string): void
  answerBytes(home: number, call: number, bytes: Uint8Array | null): void
  answerEntries(home: number, call: number, entries: Uint8Array[]): void
  answerFailed(home: number, call: number, detail: string, isConflict: boolean): void
}

/** What was asked: its outcome, or the number of a task that will come to one. */
export type Begun = number | string

interface HostCall {
  id: number
  function: number
  arguments: (string | Uint8Array | number)[]
}

/** The files in which this platform's addon may be. The one of another C library does not load. */
function names (): string[] {
  const libraries = process.platform === 'linux' ? ['-gnu', '-musl'] : ['']
  return libraries.map(libc => `quotum.${process.platform}-${process.arch}${libc}.node`)
}

function load (): Addon {
  const reasons: string[] = []
  for (const name of names()) {
    try {
      return require(`../${name}`) as Addon
    } catch (error) {
      reasons.push(error instanceof Error ? (error.message.split('\n')[0] as string) : String(error))
    }
  }
  throw new Error(
    `quotum has no addon for this platform: ${names().join(' or ')} could not be loaded. This package was built on another one. ` +
    `Build it here, with a Rust toolchain, by \`npm run build\` in the folder bindings-node of its repository. (${reasons.join('; ')})`,
  )
}

export const addon = load()

/** How decisions in memory are asked for and told. */
export const numbers = new Float64Array(1024)

/** What this copy of the package has of the core's, in this thread. */
export const home = addon.settleIn(wake, numbers)

const listeners: (() => void)[] = []

/** Has something done in the event loop when tasks are done or functions are to be called. */
export function onWake (listener: () => void): void {
  listeners.push(listener)
}

/** Others have a turn before it is called again. */
function wake (): void {
  try {
    for (const listener of listeners) listener()
  } finally {
    setImmediate(() => { if (addon.hasMore(home)) wake() })
  }
}

// Engines that nobody has closed return what they have leased. A test runner may load this many times over.
const ends: unique symbol = Symbol.for('quotum.ends') as never
const shared = process as { [ends]?: (() => void)[] }
if (shared[ends] === undefined) {
  const all: (() => void)[] = shared[ends] = []
  process.once('exit', () => { for (const end of all) end() })
}
shared[ends].push(() => { addon.moveOut(home) })
