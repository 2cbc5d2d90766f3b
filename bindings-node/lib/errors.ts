// Errors. A denial is none: it is a decision.

import type { Decision } from './decision.js'

/**
 * What has gone wrong, for a program to act on:
 *
 * | code | means |
 * | --- | --- |
 * | `invalid_argument` | an argument that cannot be: `argument`, `found` and `expected` say which |
 * | `unknown_name` | a metric, plan, feature or scope that no plan has: `unknown` lists those that there are |
 * | `plans_refused` | a plans file with problems: the message has every one, with its line and key |
 * | `no_plans` | neither the store nor the options have plans |
 * | `conflict` | an idempotency key that was used before for another request |
 * | `hold_expired`, `hold_unknown` | a reservation that has expired, or was never made or settled long ago |
 * | `store_failed` | the store cannot answer: `retry` says whether to ask again |
 * | `verify_failed` | the verifier of tokens cannot answer |
 * | `conflicted` | a transaction of a store of one's own was in another's way: the engine tries again |
 * | `denied` | a denial, for those who want it thrown: see {@link DeniedError} |
 * | `closed` | the engine was closed |
 * | `internal` | a mistake of this library's: please report it |
 */
export type ErrorCode =
  | 'invalid_argument'
  | 'unknown_name'
  | 'plans_refused'
  | 'no_plans'
  | 'conflict'
  | 'hold_expired'
  | 'hold_unknown'
  | 'store_failed'
  | 'verify_failed'
  | 'conflicted'
  | 'denied'
  | 'closed'
  | 'internal'

/** Whether to ask again: never, safely, or safely only under an idempotency key, because it may have been done. */
export type Retry = 'never' | 'safe' | 'outcome_unknown'

/** A name that no plan has. */
export interface UnknownName {
  /** `'metric'`, `'plan'`, `'feature'` or `'scope'`. */
  readonly kind: string
  /** The name that was asked for. */
  readonly name: string
  /** The names that there are. */
  readonly known: readonly string[]
}

/** An error as the addon tells it. @internal */
export interface Failure {
  readonly code: ErrorCode
  readonly message: string
  readonly argument?: string
  readonly found?: string
  readonly expected?: string
  readonly kind?: string
  readonly name?: string
  readonly known?: readonly string[]
  readonly retry?: Retry
  readonly retryAfterMs?: number
}

/** An argument's name as JavaScript has it: the core's are those of Rust. */
function argumentOf (name: string | undefined): string | undefined {
  return name === 'ttl' ? 'ttlMs' : name?.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

/** Anything that this library throws, or rejects with, but for what an `AbortSignal` says. */
export class QuotumError extends Error {
  /** What kind of error it is. It stays the same over versions; messages may not. */
  readonly code: ErrorCode
  /** Whether to ask again. */
  readonly retry: Retry
  /** Of `invalid_argument`: which argument. */
  readonly argument: string | undefined
  /** Of `unknown_name`: what it should be the name of, the name, and the names that there are. */
  readonly unknown: UnknownName | undefined
  /** Of `store_failed`: how long it is not asked again, in milliseconds, where that is known. */
  readonly retryAfterMs: number | undefined
  /** What the core knows of it, for {@link Mapping.answerError}. */
  readonly #failure: Failure

  static {
    Object.defineProperty(this.prototype, 'name', { value: 'QuotumError', configurable: true, writable: true })
  }

  /** @internal */
  constructor (failure: Failure) {
    const argument = argumentOf(failure.argument)
    super(argument === undefined ? failure.message : failure.message.replace(`\`${failure.argument}\``, `\`${argument}\``))
    this.#failure = failure
    this.code = failure.code
    this.retry = failure.retry ?? 'never'
    this.argument = argument
    const { kind = '', name = '', known } = failure
    this.unknown = known && Object.freeze({ kind, name, known: Object.freeze(known) })
    this.retryAfterMs = failure.retryAfterMs
  }

  /** @internal */
  static of (failure: Failure): QuotumError {
    return new QuotumError(failure)
  }

  /** @internal */
  static failureOf (error: QuotumError): Failure {
    return error.#failure
  }
}

/** A denial, thrown by {@link throwIfDenied}. */
export class DeniedError extends QuotumError {
  /** The decision. */
  readonly decision: Decision

  static {
    Object.defineProperty(this.prototype, 'name', { value: 'DeniedError', configurable: true, writable: true })
  }

  /** @internal */
  constructor (decision: Decision) {
    super({ code: 'denied', message: decision.denied?.message ?? 'denied' })
    this.decision = decision
  }
}

/** Thrown by a store of one's own where another transaction was faster, or waiting for it took too long. */
export class ConflictedError extends QuotumError {
  static {
    Object.defineProperty(this.prototype, 'name', { value: 'ConflictedError', configurable: true, writable: true })
  }

  constructor (message = 'another transaction was in the way') {
    super({ code: 'conflicted', message, retry: 'safe' })
  }
}

/**
 * Throws a {@link DeniedError} for a denial; otherwise returns the decision itself.
 *
 * ```js
 * throwIfDenied(await quota.consume('user-42', { searches: 1 }))
 * ```
 */
export function throwIfDenied (decision: Decision): Decision {
  if (!decision.allowed) throw new DeniedError(decision)
  return decision
}
