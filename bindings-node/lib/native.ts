// The addon: loads it, and brings its answers and the calls of the host's functions into the event loop.
//
// Nothing here knows a verb. What the addon is asked and answers is JSON; `decide.ts` is the exception.

import { setImmediate, setInterval } from 'node:timers'

import { QuotumError, type Failure } from './errors.js'

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

/** Which file this platform's addon is in. */
function addonName (): string {
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header
  const libc = process.platform !== 'linux' ? '' : header?.glibcVersionRuntime === undefined ? '-musl' : '-gnu'
  return `quotum.${process.platform}-${process.arch}${libc}.node`
}

function load (): Addon {
  const name = addonName()
  try {
    return require(`../${name}`) as Addon
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Error(
      `quotum has no addon for this platform: ${name} could not be loaded. This package was built on another one. ` +
      `Build it here, with a Rust toolchain, by \`npm run build\` in the folder bindings-node of its repository. (${why})`,
    )
  }
}

export const addon = load()

/** How decisions in memory are asked for and told. */
export const numbers = new Float64Array(1024)

/** What this copy of the package has of the core's, in this thread. */
export const home = addon.settleIn(wake, numbers)

/** What an outcome says. */
export function outcome (text: string): unknown {
  const { value, error } = JSON.parse(text) as { value?: unknown, error?: Failure }
  if (error !== undefined) throw QuotumError.of(error)
  return value
}

/** Who waits for a task, by its number. */
const waiting = new Map<number, (outcome: string) => void>()

// The process goes on while somebody waits for an answer, and ends when nobody does.
const alive = setInterval(() => {}, 2 ** 31 - 1)
alive.unref()

function wait (task: number, told: (outcome: string) => void): void {
  if (waiting.size === 0) alive.ref()
  waiting.set(task, told)
}

function forget (task: number): void {
  if (waiting.delete(task) && waiting.size === 0) alive.unref()
}

/** The promise of what a task comes to. An abort lets go of it: what was begun is done whole or not at all. */
export async function pending<T> (task: number, read: (value: unknown) => T, signal?: AbortSignal): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const abort = (): void => {
      forget(task)
      addon.cancel(home, task)
      reject(signal?.reason as Error)
    }
    signal?.addEventListener('abort', abort, { once: true })
    wait(task, text => {
      signal?.removeEventListener('abort', abort)
      try {
        resolve(read(outcome(text)))
      } catch (error) {
        reject(error as Error)
      }
    })
  })
}

/** The promise of what was asked. */
export async function begun<T> (begun: Begun, read: (value: unknown) => T, signal?: AbortSignal): Promise<T> {
  return typeof begun === 'string' ? read(outcome(begun)) : await pending(begun, read, signal)
}

/** A function of the host's, by whoever calls it and answers. */
export type HostFunction = (call: number, ...args: (string | Uint8Array | number)[]) => void

const functions = new Map<number, HostFunction>()
let lastFunction = 0

/** Numbers a function, which the addon then calls. */
export function register (hosted: HostFunction): number {
  do lastFunction = (lastFunction + 1) % 2 ** 32; while (lastFunction === 0 || functions.has(lastFunction))
  functions.set(lastFunction, hosted)
  return lastFunction
}

/** Lets go of functions. Whoever calls one nevertheless is told so. */
export function unregister (numbers: readonly number[]): void {
  for (const number of numbers) functions.delete(number)
}

/** A function whose answer is wanted as JSON. */
export function answering (hosted: (argument: string) => unknown, write: (answer: unknown) => unknown): HostFunction {
  const answer = async (call: number, argument: string): Promise<void> => {
    try {
      const answer = write(await hosted(argument))
      addon.answerJson(home, call, JSON.stringify(answer ?? null))
    } catch (error) {
      addon.answerFailed(home, call, words(error), false)
    }
  }
  return (call, argument) => { void answer(call, argument as string) }
}

/** What was thrown, in words. */
export function words (error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}

/** Tells the operator of something that nobody can catch. */
export function warn (text: string): void {
  process.emitWarning(text, { type: 'QuotumWarning' })
}

functions.set(0, (_call, diagnosis) => {
  const { text } = JSON.parse(diagnosis as string) as { text: string }
  warn(text)
})

/** Called in the event loop, when tasks are done or functions are to be called. Others have a turn before it is again. */
function wake (): void {
  try {
    deliver()
  } finally {
    setImmediate(() => { if (addon.hasMore(home)) wake() })
  }
}

function deliver (): void {
  const settled = addon.settled(home)
  for (let at = 0; at < settled.length; at += 2) {
    const task = settled[at] as number
    const told = waiting.get(task)
    forget(task)
    told?.(settled[at + 1] as string)
  }
  for (const { id, function: number, arguments: args } of addon.calls(home)) {
    const hosted = functions.get(number)
    if (hosted !== undefined) hosted(id, ...args)
    else if (id !== 0) addon.answerFailed(home, id, 'the engine was closed', false)
  }
}

// Engines that nobody has closed return what they have leased.
process.once('exit', () => { addon.moveOut(home) })
