// Functions of the host's, which the addon has called in the event loop. Whatever they do, it is answered and harms nobody else.

import { clearTimeout, setTimeout } from 'node:timers'

import { addon, home, onWake } from './addon.js'

/** A function of the host's, by whoever calls it and answers. */
export interface HostFunction {
  (call: number, ...args: (string | Uint8Array | number)[]): void
  /** Asks whether it may be forgotten now; where not, it calls `forget` when it may. */
  retire? (forget: () => void): boolean
}

const functions = new Map<number, HostFunction>()
let last = 0

/** Numbers a function, which the addon then calls. */
export function register (hosted: HostFunction): number {
  do last = (last + 1) % 2 ** 32; while (last === 0 || functions.has(last))
  functions.set(last, hosted)
  return last
}

/** Lets go of functions. Whoever calls one nevertheless is told so. */
export function unregister (numbers: readonly number[]): void {
  for (const number of numbers) {
    const forget = (): void => { functions.delete(number) }
    if (functions.get(number)?.retire?.(forget) !== false) forget()
  }
}

/** A function whose answer is wanted as JSON; after `waitMs` at the most, where that is said. */
export function answering (
  hosted: (argument: string) => unknown, write: (answer: unknown) => unknown, waitMs?: number,
): HostFunction {
  const answer = async (call: number, argument: string): Promise<void> => {
    try {
      const answer = write(await within(waitMs, hosted(argument)))
      addon.answerJson(home, call, JSON.stringify(answer ?? null))
    } catch (error) {
      addon.answerFailed(home, call, words(error), false)
    }
  }
  return (call, argument) => { void answer(call, argument as string) }
}

/** What is promised, if it comes in time. */
async function within (waitMs: number | undefined, promised: unknown): Promise<unknown> {
  if (waitMs === undefined) return await promised
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`it did not answer within ${waitMs} ms`)) }, waitMs)
  })
  try {
    return await Promise.race([promised, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What was thrown, in words. Anything may be. */
export function words (error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  } catch {
    return 'something that cannot be told in words'
  }
}

/** Tells the operator of something that nobody can catch. */
export function warn (text: string): void {
  process.emitWarning(text, { type: 'QuotumWarning' })
}

functions.set(0, (_call, diagnosis) => {
  const { text } = JSON.parse(diagnosis as string) as { text: string }
  warn(text)
})

onWake(() => {
  for (const { id, function: number, arguments: args } of addon.calls(home)) {
    const hosted = functions.get(number)
    try {
      if (hosted !== undefined) hosted(id, ...args)
      else if (id !== 0) addon.answerFailed(home, id, 'the engine was closed', false)
    } catch (error) {
      if (id !== 0) addon.answerFailed(home, id, words(error), false)
      else warn(words(error))
    }
  }
})
