// Tasks: what the addon was asked and cannot answer at once, as promises.

import { setInterval } from 'node:timers'

import { addon, home, onWake, type Begun } from './addon.js'
import { QuotumError, type Failure } from './errors.js'

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

onWake(() => {
  const settled = addon.settled(home)
  for (let at = 0; at < settled.length; at += 2) {
    const task = settled[at] as number
    const told = waiting.get(task)
    forget(task)
    told?.(settled[at + 1] as string)
  }
})

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
