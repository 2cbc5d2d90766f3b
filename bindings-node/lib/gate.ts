// The gate: asks the engine for one request, and says what its answer means for it.
//
// What the modules for web frameworks have in common. How a request is read and how an answer is sent is theirs.

import { isIP } from 'node:net'

import { onlyKeys, plain, refused, refusedValue, whole } from './argument.js'
import type { Decision } from './decision.js'
import { DeniedError, QuotumError, throwIfDenied } from './errors.js'
import { clientAddress, Mapping, tokenOf, type HeaderFields, type HttpAnswer, type MappingOptions } from './http.js'
import type { Names } from './names.js'
import { warn, words } from './functions.js'
import type { Plan } from './plans.js'
import type { Quota } from './quota.js'
import type { Reservation } from './reservation.js'
import type { Asking, Client } from './rule.js'
import type { Awaitable } from './store.js'
import type { Usage } from './usage.js'

/** The engine, or the promise of one: what `Quota.open` returns. */
export type Engine<N extends Names = Names> = Quota<N> | Promise<Quota<N>>

/** A function of a request. A method, for the compiler to take one of a narrower request too. */
type Of<R, T> = { of (request: R): T }['of']

/** What can be chosen about the requests of a web framework. */
export interface GateOptions<R> extends MappingOptions {
  /**
   * Who asks: the id of a subject, or nothing where nobody is known. By default it is whomever the token of
   * `Authorization: Bearer` or of `X-API-Key` speaks for, as the engine's verifier says.
   */
  readonly subject?: Of<R, Awaitable<string | null | undefined>>
  /** Which requests pass without being asked about. */
  readonly skip?: Of<R, Awaitable<boolean>>
  /** How many proxies of one's own stand before this server; 0 by default. */
  readonly trustedHops?: number
  /** Is told of what keeps the engine from deciding, in place of a warning of the process. */
  readonly onError?: (error: QuotumError, request: R) => unknown
}

/** A request that was let in: by which decision, and with what set aside for it. */
export interface Admission {
  /** The decision. */
  readonly decision: Decision
  /** What was set aside; null where nothing was. */
  readonly reservation: Reservation | null
}

/** What is sent in place of what was asked for. */
export interface Answer {
  /** The status. */
  readonly status: number
  /** Header fields, but for the content type: names in lower case, and values. */
  readonly fields: HttpAnswer['fields']
  /** What the body is. */
  readonly contentType: string
  /** A problem document, in JSON. */
  readonly body: string
  /** The denial; null where an error kept the engine from deciding. */
  readonly decision: Decision | null
  /** That error; null where the request is denied. */
  readonly error: QuotumError | null
}

/** What becomes of a request: it is let in, answered, or, where it is skipped, neither. */
export interface Outcome {
  /** How it was let in; null where it was not, or was skipped. */
  readonly admission: Admission | null
  /** Header fields that tell the client of every limit. */
  readonly fields: HttpAnswer['fields']
  /** What is sent in its place; null where it is let in or skipped. */
  readonly answer: Answer | null
}

/** What was asked of the engine, or the answer where it cannot be told. @internal */
export type Told<T> = { readonly value: T, readonly answer: null } | { readonly value: null, readonly answer: Answer }

/** What the gate reads of a request. */
export interface Head {
  /** Its header fields. */
  readonly headers: HeaderFields
  /** The address of the other end of the connection, where it has one. */
  readonly peer: string | undefined
}

/** @internal */
export const GATE_KEYS = ['subject', 'skip', 'trustedHops', 'onError', 'statuses', 'fields']

/** What all share whose peer has no address, such as the other end of a Unix socket. */
const NO_ADDRESS = '0.0.0.0'

/** What an IPv4 address begins with that is written as IPv6. */
const MAPPED = '::ffff:'

const admissions = new WeakMap<object, Admission>()

/** How a request was let in. Throws where nothing was asked for it. */
export function admissionOf (request: object): Admission {
  const found = admissions.get(request)
  if (found === undefined) throw new Error('nothing was asked for this request: put a rule before its handler')
  return found
}

/** Notes how a request was let in. A reservation is still its own after another rule that made none. @internal */
export function admit (request: object, { decision, reservation }: Admission): Admission {
  const before = admissions.get(request)?.reservation ?? null
  if (before !== null && reservation !== null) {
    reservation.letGo()
    throw new Error('two rules of this request set units aside: put the costs of both into one rule')
  }
  const admission = Object.freeze({ decision, reservation: reservation ?? before })
  admissions.set(request, admission)
  return admission
}

/**
 * The value of a header field, beside one that is there. Every limit is told of; of other fields the one that is there is
 * kept, but for an answer's, which are its own.
 * @internal
 */
export function merged (name: string, value: string, there: string | undefined, answer: Answer | null): string {
  if (there === undefined) return value
  if (name.startsWith('ratelimit')) return `${there}, ${value}`
  return answer === null ? there : value
}

/** Asks an engine about the requests of a framework. @internal */
export class Gate<R> {
  readonly #engine: Engine
  readonly #options: GateOptions<R>
  readonly #head: (request: R) => Head
  readonly #mapping: Mapping
  readonly #trustedHops: number

  /** `head` reads a request. `own` are the options that the framework's module knows besides. */
  constructor (engine: Engine, options: GateOptions<R>, head: (request: R) => Head, own: readonly string[] = []) {
    if (typeof engine !== 'object' || engine === null) throw refusedValue('quota', engine, 'an engine, or the promise of one')
    onlyKeys('options', plain('options', options, 'an object'), [...GATE_KEYS, ...own])
    const { statuses = {}, fields = 'standard', trustedHops = 0 } = options
    this.#engine = engine
    // Whoever asks is told; that it could not be opened is no crash before.
    Promise.resolve(engine).catch(() => {})
    this.#options = options
    this.#head = head
    this.#mapping = new Mapping({ statuses, fields })
    this.#trustedHops = whole('trustedHops', trustedHops)
  }

  /** The address that a request comes from, as the key of a rate. */
  address (request: R): { readonly ip: string } {
    const { headers, peer } = this.#head(request)
    // Proxies are counted behind a peer without an address, too.
    const known = peer !== undefined && isIP(peer) !== 0 ? peer : NO_ADDRESS
    const ip = clientAddress(this.#trustedHops, known, headers) ?? NO_ADDRESS
    // Servers that listen on both kinds of addresses have IPv4 ones written as IPv6.
    return { ip: ip.startsWith(MAPPED) && isIP(ip.slice(MAPPED.length)) === 4 ? ip.slice(MAPPED.length) : ip }
  }

  /** Asks for a request what a rule says. Rejects with errors of the backend's own only. */
  async ask (request: R, rule: Asking<R>): Promise<Outcome> {
    if (await this.#options.skip?.(request) === true) return { admission: null, fields: [], answer: null }
    const { value, answer } = await this.#told(request, async quota => {
      const admission = await this.#admitted(quota, request, rule)
      if (!admission.decision.allowed) throw new DeniedError(admission.decision)
      return { admission, fields: this.#mapping.answer(admission.decision, quota.now).fields }
    })
    return answer === null ? { ...value, answer } : { admission: null, fields: answer.fields, answer }
  }

  async #admitted (quota: Quota, request: R, rule: Asking<R>): Promise<Admission> {
    const address = (): Client['address'] => this.address(request)
    const client: Client = { get address () { return address() } }
    const who = rule.isByAnyone ? {} : await this.#caller(request)
    const asked = { ...who, ...await rule.find(request, client) }
    if (rule.reserveMs === undefined) return { decision: await quota.admit(asked), reservation: null }
    const reservation = await quota.reserve(asked, { ttlMs: rule.reserveMs })
    return { decision: reservation.decision, reservation }
  }

  /** What an account page shows of whoever asks. */
  async usage (request: R): Promise<Told<Usage>> {
    return await this.#told(request, async quota => {
      const who = await this.#caller(request)
      const subject = 'subject' in who ? who.subject : throwIfDenied(await quota.admit(who)).subject as string
      return await quota.usage(subject)
    })
  }

  /** The plans that the public may see, by rank. */
  async plans (request: R): Promise<Told<{ readonly plans: readonly Plan[], readonly total: number }>> {
    return await this.#told(request, async quota => {
      const plans = await quota.plans()
      return { plans, total: plans.length }
    })
  }

  /** Who asks. An empty token speaks for nobody, and is denied. */
  async #caller (request: R): Promise<{ readonly subject: string } | { readonly token: string }> {
    if (this.#options.subject === undefined) return { token: tokenOf(this.#head(request).headers) ?? '' }
    const subject: unknown = await this.#options.subject(request)
    if (subject === null || subject === undefined) return { token: '' }
    // Ids of users are often numbers: without a word, they would be a client's mistake.
    if (typeof subject === 'string') return { subject }
    throw new TypeError(`the option \`subject\` found a ${typeof subject}, expected the id of a subject, a text`)
  }

  /** What the engine is asked. Denials and errors of the engine's are answered, others are the backend's own. */
  async #told<T>(request: R, asked: (quota: Quota) => Promise<T>): Promise<Told<T>> {
    let quota: Quota | undefined
    try {
      quota = await this.#engine
      return { value: await asked(quota), answer: null }
    } catch (error) {
      if (!(error instanceof QuotumError)) throw error
      return { value: null, answer: this.#refusal(error, quota, request) }
    }
  }

  /** What to send for an error of the engine's, which an endpoint has met itself; null for any other. */
  answer (error: unknown, request: R): Answer | null {
    return error instanceof QuotumError ? this.#refusal(error, undefined, request) : null
  }

  /** What to send in place of what was asked for. What is not a denial is told. */
  #refusal (error: QuotumError, quota: Quota | undefined, request: R): Answer {
    const { fields, denied } = this.#mapping.answerError(error, timeOf(quota))
    if (denied === null) throw refused('decision', 'one that is allowed', 'a denial')
    // Below, it is a client's doing.
    if (denied.status >= 500 && !(error instanceof DeniedError)) this.#tell(error, request)
    const decision = error instanceof DeniedError ? error.decision : null
    return { ...denied, fields, decision, error: decision === null ? error : null }
  }

  async #listen (onError: NonNullable<GateOptions<R>['onError']>, error: QuotumError, request: R): Promise<void> {
    try {
      await onError(error, request)
    } catch (thrown) {
      warn(`onError has thrown ${words(thrown)}`)
    }
  }

  #tell (error: QuotumError, request: R): void {
    if (this.#options.onError === undefined) warn(`a request could not be decided: ${error.message}`)
    else void this.#listen(this.#options.onError, error, request)
  }
}

/** The time by an engine's clock, or by the system's where the engine is closed or was never opened. */
function timeOf (quota: Quota | undefined): Date {
  try {
    return quota?.now ?? new Date()
  } catch {
    return new Date()
  }
}
