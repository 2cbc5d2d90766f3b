// What to tell HTTP clients of decisions and errors. The core says it all.

import { onlyKeys, plain, text, time, whole, word } from './argument.js'
import { REASONS, writeDecision, type Decision, type Reason } from './decision.js'
import { DeniedError, QuotumError } from './errors.js'
import { addon } from './addon.js'
import { outcome } from './tasks.js'

/**
 * Which header fields are sent: `RateLimit` and `RateLimit-Policy` of the IETF's draft, the `X-RateLimit-` fields that most
 * services send, both, or neither.
 */
export type Fields = 'standard' | 'legacy' | 'both' | 'none'

/** How decisions become responses, where that is not as usual. */
export interface MappingOptions {
  /**
   * Statuses from 400 to 599 by reason, such as `{ quota_exhausted: 402 }`. As usual: 429 for quotas and rates, 403 for
   * features, trials and inactive subscriptions, 401 for a token, and 503 for the store.
   */
  readonly statuses?: Readonly<Partial<Record<Reason, number>>>
  /** Which header fields are sent; `'standard'` by default. */
  readonly fields?: Fields
}

/** What to tell the client. */
export interface HttpAnswer {
  /** Header fields: names in lower case, and values. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** What is told in place of what was asked for, where it is denied; null where it is allowed. */
  readonly denied: {
    readonly status: number
    /** What the body is: `application/problem+json`. */
    readonly contentType: string
    /** A problem document. */
    readonly body: string
  } | null
}

interface WireAnswer {
  fields: [string, string][]
  denied?: { status: number, content_type: string, body: string }
}

function readAnswer (wire: WireAnswer): HttpAnswer {
  const denied = wire.denied === undefined
    ? null
    : Object.freeze({ status: wire.denied.status, contentType: wire.denied.content_type, body: wire.denied.body })
  return Object.freeze({ fields: Object.freeze(wire.fields), denied })
}

/** What no status is, and the core refuses. */
const STATUS_MAX = 65_535

const FIELDS = ['standard', 'legacy', 'both', 'none'] as const

/** How decisions become responses: a status for each reason, and which header fields are sent. */
export class Mapping {
  readonly #written: string

  constructor (options: MappingOptions = {}) {
    onlyKeys('options', plain('options', options, 'an object'), ['statuses', 'fields'])
    const { statuses = {}, fields = 'standard' } = options
    const all = Object.entries(plain('statuses', statuses, 'an object')).map(([reason, status]) =>
      [word('statuses', reason, REASONS), Math.min(whole(reason, status), STATUS_MAX)])
    this.#written = JSON.stringify({ statuses: Object.fromEntries(all), fields: word('fields', fields, FIELDS) })
    outcome(addon.checkMapping(this.#written))
  }

  /** What to tell the client about a decision that was made `now`. */
  answer (decision: Decision, now: Date = new Date()): HttpAnswer {
    time('now', now)
    return readAnswer(outcome(addon.answer(this.#written, JSON.stringify(writeDecision(decision)), now.getTime())) as WireAnswer)
  }

  /**
   * What to tell the client where an error kept the engine from deciding. It is never to be let pass. An error that is not
   * this library's is the backend's own: it is thrown again.
   */
  answerError (error: unknown, now: Date = new Date()): HttpAnswer {
    if (error instanceof DeniedError) return this.answer(error.decision, now)
    if (!(error instanceof QuotumError)) throw error
    time('now', now)
    const failure = JSON.stringify(QuotumError.failureOf(error))
    return readAnswer(outcome(addon.answerError(this.#written, failure, now.getTime())) as WireAnswer)
  }
}

/** What `Quota.metrics` is, as a content type. */
export const METRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

/** Header fields of a request, as Node's `IncomingMessage` has them. */
export type HeaderFields = Readonly<Record<string, string | readonly string[] | undefined>>

function lines (headers: HeaderFields, name: string): string[] {
  const value = headers[name]
  return value === undefined ? [] : typeof value === 'string' ? [value] : [...value]
}

/** The token of `Authorization: Bearer`, or else of `X-API-Key`; undefined without one. */
export function tokenOf (headers: HeaderFields): string | undefined {
  return addon.tokenOf(lines(headers, 'authorization'), lines(headers, 'x-api-key')) ?? undefined
}

/**
 * The address that a request comes from, behind so many trusted proxies, by `X-Forwarded-For`. Undefined where the peer has
 * none, such as the other end of a Unix socket.
 */
export function clientAddress (trustedHops: number, peer: string | undefined, headers: HeaderFields): string | undefined {
  const forwarded = lines(headers, 'x-forwarded-for')
  return addon.clientAddress(whole('trustedHops', trustedHops), text('peer', peer ?? ''), forwarded) ?? undefined
}
