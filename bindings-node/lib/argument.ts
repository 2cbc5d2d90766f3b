// Arguments: of which type they are. How large a number may be, the core says.

import { inspect } from 'node:util'

import { QuotumError } from './errors.js'

/** An error that names the argument, what was found and what was expected. */
export function refused (argument: string, found: string, expected: string): QuotumError {
  const message = `argument \`${argument}\`: found ${found}, expected ${expected}`
  return QuotumError.of({ code: 'invalid_argument', message, argument, found, expected })
}

/** Arguments that may be a secret, or have one in them. */
const SECRETS = ['store', 'request', 'token', 'pepper', 'verifier']

/** The same, for a value as a developer would write it; of what may be a secret, and of objects, only what they are. */
export function refusedValue (argument: string, value: unknown, expected: string): QuotumError {
  const isShown = !SECRETS.includes(argument) && (typeof value !== 'object' || value === null)
  return refused(argument, isShown ? inspect(value, { maxStringLength: 64 }) : kindOf(value), expected)
}

/** What a value is. */
function kindOf (value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  return tag === 'Date' && Number.isNaN((value as Date).getTime()) ? 'an invalid Date' : `an object (${tag})`
}

/** A text, without the halves of characters that would be lost on the way. */
export function text (argument: string, value: unknown): string {
  if (typeof value !== 'string') throw refusedValue(argument, value, 'a text')
  if (!value.isWellFormed()) throw refusedValue(argument, value, 'a text of whole Unicode characters')
  return value
}

/** A token. One that is no text, which no error must show, is one that is malformed. */
export function token (value: unknown): string {
  if (typeof value !== 'string') throw refused('token', `a value of type ${typeof value}`, 'a text')
  return value.isWellFormed() ? value : '\0'
}

/** A whole number that JavaScript holds exactly. */
export function whole (argument: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw refusedValue(argument, value, `a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`)
  }
  return value as number
}

/** A number of units; an error names the metric. */
export function units (metric: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw refusedValue(metric, value, `a whole number of units, up to ${Number.MAX_SAFE_INTEGER}`)
  }
  return value as number
}

/** A time span, in milliseconds. */
export function span (argument: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw refusedValue(argument, value, 'a whole number of milliseconds, from 0')
  }
  return value as number
}

/** A time, in milliseconds since 1970. */
export function instant (argument: string, value: unknown): number {
  if (Object.prototype.toString.call(value) !== '[object Date]') throw refusedValue(argument, value, 'a Date')
  const ms = (value as Date).getTime()
  // Beyond it, years would need signs.
  if (!(ms >= -62_135_596_800_000 && ms <= 253_402_207_200_000)) {
    throw refusedValue(argument, value, 'a valid Date, in the years 1 to 9999')
  }
  return ms
}

/** A time, as the core reads it. */
export function time (argument: string, value: unknown): string {
  return new Date(instant(argument, value)).toISOString()
}

/** Whether or not. */
export function flag (argument: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw refusedValue(argument, value, 'true or false')
  return value
}

/** One of some words. */
export function word<W extends string> (argument: string, value: unknown, words: readonly W[]): W {
  if (!words.includes(value as W)) throw refusedValue(argument, value, words.map(word => `'${word}'`).join(', '))
  return value as W
}

/** An object that is none of its special kinds, such as a Map, whose entries would not be seen. */
export function plain (argument: string, value: unknown, expected: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null) {
    // Nearly all are, and are told so in no time.
    if (Object.getPrototypeOf(value) === Object.prototype) return value as Record<string, unknown>
    if (Object.prototype.toString.call(value) === '[object Object]') return value as Record<string, unknown>
  }
  throw refusedValue(argument, value, expected)
}

/** Refuses keys that nothing has: a typo is never what nobody meant. */
export function onlyKeys (argument: string, value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw refused(argument, `\`${key}\`, which there is not`, known.join(', '))
  }
}

/** The value of a feature: a switch, a ceiling or a word. */
export function featureValue (argument: string, value: unknown): boolean | number | string {
  if (typeof value === 'boolean') return value
  if (typeof value === 'string') return text(argument, value)
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number
  throw refusedValue(argument, value, 'true or false, a whole number from 0, or a text')
}

/** The entries of an object of texts, features or whatever `read` reads. */
export function entries<T> (argument: string, value: unknown, read: (name: string, value: unknown) => T): [string, T][] {
  const given = plain(argument, value, 'an object')
  return Object.entries(given).map(([name, entry]) => [text(argument, name), read(name, entry)])
}

/** Rejects with what the signal says, before anything is asked. */
export function unaborted (signal: unknown): AbortSignal | undefined {
  if (signal === undefined) return undefined
  if (!(signal instanceof AbortSignal)) throw refusedValue('signal', signal, 'an AbortSignal')
  signal.throwIfAborted()
  return signal
}
