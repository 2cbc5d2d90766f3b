// What can be chosen about an engine.

import { flag, onlyKeys, plain, refused, refusedValue, span, text, time, whole, word } from './argument.js'
import { ManualClock } from './clock.js'
import { readEvent, type QuotaEvent, type WireEvent } from './event.js'
import type { Names, PlansSource } from './names.js'
import { answering, register, unregister, warn, words } from './functions.js'
import { Plans, writePlans } from './plans.js'
import { isStore, registerStore, type Awaitable, type Store } from './store.js'
import { writeSubscription, type SubscriptionSource } from './subscription.js'

/** Whom a token speaks for, as a verifier says it. */
export interface IdentitySource {
  /** Who is metered. */
  readonly subject: string
  /** When the token ceases to be valid, if it does by itself. */
  readonly expiresAt?: Date | null
  /** What else the backend wants to know of the caller. Not the token itself: attributes are printed. */
  readonly attributes?: Readonly<Record<string, string>>
}

/** What is told of every event: a function, or an `EventEmitter`, which emits each event under its own name. */
export type Listener = ((event: QuotaEvent) => unknown) | {
  /** Tells whoever listens to events of this name. */
  emit(name: string, event: QuotaEvent): unknown
}

/** What can be chosen about an engine. Time spans are whole milliseconds. */
export interface QuotaOptions<N extends Names = Names> {
  /**
   * The path of a plans file, its object, or `Plans`, in force as long as the store has no plans; or a function that returns
   * one of them, in place of the store.
   */
  readonly plans?: string | URL | PlansSource | Plans | (() => Awaitable<string | PlansSource | Plans | null | undefined>)
  /** Which subscription a subject has: it, the id of a plan that it is active on, or nothing. In place of the store. */
  readonly subscriptions?: (subject: string) => Awaitable<SubscriptionSource<N> | N['plan'] | null | undefined>
  /**
   * Whom a token speaks for: an identity, the id of a subject, or nothing where it speaks for nobody. It is waited for as
   * long as the store.
   */
  readonly verifier?: (token: string) => Awaitable<IdentitySource | string | null | undefined>
  /** A clock for tests; the system's by default. */
  readonly clock?: ManualClock
  /** How long a request waits for the store, and for the verifier; 5,000 by default. */
  readonly storeTimeoutMs?: number
  /** After how many failures in a row the store is not asked for a while; `false` for never. */
  readonly breaker?: boolean | {
    /** How many failures in a row; 5 by default. */
    readonly failures?: number
    /** How long it is not asked at first; 1,000 by default. */
    readonly coolDownMs?: number
    /** How long at the most; 30,000 by default. */
    readonly coolDownMaxMs?: number
  }
  /** Whether units are granted from leased blocks, of quotas whose plan does not say; `'auto'` by default. */
  readonly lease?: 'auto' | 'off' | {
    /** The most units of one block. */
    readonly max?: number
    /** For how long a block is leased, in seconds: 1 to 3,600, and 10 by default. */
    readonly ttlS?: number
  }
  /** What becomes of denials, until `setEnforcement` says otherwise; `'enforce'` by default. */
  readonly enforcement?: Enforcement
  /** How long plans are served before they are refreshed; 300,000 by default. */
  readonly catalogTtlMs?: number
  /** How long a subscription is served before the store is asked again; 30,000 by default. */
  readonly subscriptionTtlMs?: number
  /** How often the store is asked what other processes have changed; 1,000 by default. */
  readonly feedIntervalMs?: number
  /** How long an idempotency key is remembered, and what became of a reservation; 24 hours by default. */
  readonly idempotencyTtlMs?: number
  /** How many subjects are kept in memory; 100,000 by default. */
  readonly recordsMax?: number
  /** How many windows of rates are kept in memory; 100,000 by default. */
  readonly ratesMax?: number
  /** How many tokens may be verified at once; 1,000 by default. */
  readonly verificationsMax?: number
  /** How many identities are kept; 100,000 by default. */
  readonly tokensMax?: number
  /** How long an identity is kept; 60,000 by default. */
  readonly tokenTtlMs?: number
  /** How many refused tokens are kept; 10,000 by default. */
  readonly refusalsMax?: number
  /** How long a refused token is kept; 10,000 by default. */
  readonly refusalTtlMs?: number
  /** Whether identities are kept in the store too, by the digests of their tokens; `false` by default. */
  readonly tokensInStore?: boolean
  /** A secret of at least 16 random bytes under which tokens are digested, the same in every process that shares a store. */
  readonly pepper?: Uint8Array
  /** Who is told of every event. It may throw and be slow: events that it is too slow for are dropped, and counted. */
  readonly onEvent?: Listener
  /** What the store's log keeps: `'changes'` by default, `'incidents'`, which is all but successes, or `'all'`. */
  readonly logEvents?: 'changes' | 'incidents' | 'all'
}

/** What becomes of denials: they are enforced, only told of, or nothing is asked. */
export type Enforcement = 'enforce' | 'shadow' | 'off'

/** @internal */
export const ENFORCEMENTS = ['enforce', 'shadow', 'off'] as const

/** How long a verifier is waited for, where nothing else is said. */
const VERIFIED_MS = 5_000

type Write = (name: string, value: unknown) => unknown

const SIMPLE: Readonly<Record<string, Write>> = {
  storeTimeoutMs: span,
  breaker: writeBreaker,
  lease: writeLease,
  enforcement: (name, value) => word(name, value, ENFORCEMENTS),
  catalogTtlMs: span,
  subscriptionTtlMs: span,
  feedIntervalMs: span,
  idempotencyTtlMs: span,
  recordsMax: whole,
  ratesMax: whole,
  verificationsMax: whole,
  tokensMax: whole,
  tokenTtlMs: span,
  refusalsMax: whole,
  refusalTtlMs: span,
  tokensInStore: flag,
  pepper: writePepper,
  logEvents: (name, value) => word(name, value, ['changes', 'incidents', 'all']),
}

const NAMES = ['plans', 'subscriptions', 'verifier', 'clock', 'onEvent', ...Object.keys(SIMPLE)]

function writeBreaker (name: string, value: unknown): unknown {
  if (typeof value === 'boolean') return value
  const given = plain(name, value, 'true, false, or an object of failures, coolDownMs and coolDownMaxMs')
  onlyKeys(name, given, ['failures', 'coolDownMs', 'coolDownMaxMs'])
  return writeAll(given, { failures: upTo(2 ** 32 - 1), coolDownMs: span, coolDownMaxMs: span })
}

function writeLease (name: string, value: unknown): unknown {
  if (value === 'auto' || value === 'off') return value
  const given = plain(name, value, '\'auto\', \'off\', or an object of max and ttlS')
  onlyKeys(name, given, ['max', 'ttlS'])
  return writeAll(given, { max: whole, ttlS: upTo(3_600) })
}

/** A whole number that is no larger. */
function upTo (most: number): Write {
  return (name, value) => {
    if (whole(name, value) > most) throw refusedValue(name, value, `a whole number up to ${most}`)
    return value
  }
}

function writePepper (name: string, value: unknown): unknown {
  // What was given is a secret: an error does not show it.
  if (!(value instanceof Uint8Array)) throw refused(name, `a value of type ${typeof value}`, 'a Uint8Array')
  return [...value]
}

function writeAll (given: Record<string, unknown>, writes: Readonly<Record<string, Write>>): Record<string, unknown> {
  const written: Record<string, unknown> = {}
  for (const [name, write] of Object.entries(writes)) {
    if (given[name] !== undefined && given[name] !== null) written[name] = write(name, given[name])
  }
  return written
}

function callable<F> (name: string, value: unknown): F {
  if (typeof value !== 'function') throw refusedValue(name, value, 'a function')
  return value as F
}

/** Whom a verifier names. What it returns may be the token, which no error must show. */
function writeIdentity (answer: unknown): unknown {
  if (answer === null || answer === undefined) return null
  if (typeof answer === 'string') return { subject: answer }
  const { subject, expiresAt, attributes } = answer as Partial<IdentitySource>
  if (typeof subject !== 'string') {
    throw refused('verifier', `an answer of type ${typeof answer}`, 'an identity, the id of a subject, or null')
  }
  return {
    subject,
    ...(expiresAt === undefined || expiresAt === null ? {} : { expires_at: time('expiresAt', expiresAt) }),
    ...(attributes === undefined ? {} : { attributes }),
  }
}

function writeHosted (answer: unknown): unknown {
  if (answer === null || answer === undefined) return null
  if (typeof answer === 'string') return answer
  const expected = 'a function that returns a subscription, the id of a plan, or null'
  const source = plain('subscriptions', answer, expected) as Partial<SubscriptionSource>
  return writeSubscription(source.plan as string, source as SubscriptionSource)
}

/** Tells an event. What a listener throws is told as what nobody can catch. */
function tell (listener: Listener, text: string): void {
  const thrown = (error: unknown): void => { warn(`a listener to events has thrown ${words(error)}`) }
  try {
    const event = readEvent(JSON.parse(text) as WireEvent)
    const told: unknown = typeof listener === 'function' ? listener(event) : listener.emit(event.name, event)
    Promise.resolve(told).catch(thrown)
  } catch (error) {
    thrown(error)
  }
}

/** An engine's options as the addon reads them, and the functions that it may call. @internal */
export interface WrittenOptions {
  readonly options: Record<string, unknown>
  readonly functions: readonly number[]
}

/** @internal */
export function writeOptions (store: string | Store, given: QuotaOptions): WrittenOptions {
  const functions: number[] = []
  try {
    return { options: write(store, given, functions), functions }
  } catch (error) {
    unregister(functions)
    throw error
  }
}

function write (store: string | Store, given: QuotaOptions, functions: number[]): Record<string, unknown> {
  onlyKeys('options', plain('options', given, 'an object'), NAMES)
  const hosted = (number: number): number => {
    functions.push(number)
    return number
  }
  const options = writeAll(given as Record<string, unknown>, SIMPLE)
  if (isStore(store)) options['store'] = hosted(registerStore(store))
  else options['url'] = writeUrl(store)
  const { plans, subscriptions, verifier, clock, onEvent } = given
  if (typeof plans === 'function') {
    const writeAnswer = (answer: unknown): unknown => answer === null || answer === undefined ? null : writePlans('plans', answer)
    options['plansFunction'] = hosted(register(answering(() => plans(), writeAnswer)))
  } else if (plans !== undefined) {
    options['plans'] = writePlans('plans', plans)
  }
  if (subscriptions !== undefined) {
    const read = callable<(subject: string) => unknown>('subscriptions', subscriptions)
    options['subscriptions'] = hosted(register(answering(read, writeHosted)))
  }
  if (verifier !== undefined) {
    const verify = callable<(token: string) => unknown>('verifier', verifier)
    options['verifier'] = hosted(register(answering(verify, writeIdentity, given.storeTimeoutMs ?? VERIFIED_MS)))
  }
  if (clock !== undefined) {
    if (!(clock instanceof ManualClock)) throw refusedValue('clock', clock, 'a ManualClock')
    options['clock'] = ManualClock.numberOf(clock)
  }
  if (onEvent !== undefined) {
    const emits = typeof onEvent === 'object' && typeof onEvent?.emit === 'function'
    if (typeof onEvent !== 'function' && !emits) throw refusedValue('onEvent', onEvent, 'a function or an EventEmitter')
    options['onEvent'] = hosted(register((_call, event) => { tell(onEvent, event as string) }))
  }
  return options
}

function writeUrl (store: unknown): string {
  const url = store instanceof URL ? store.href : store
  if (typeof url === 'string') return text('store', url)
  throw refusedValue('store', store, 'the URL of a store, or an object with a method `begin`')
}
