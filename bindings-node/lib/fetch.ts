// Quotas for handlers of the Fetch standard's `Request` and `Response`: route handlers of Next, `Bun.serve`, `Deno.serve`.

import { refused } from './argument.js'
import {
  admit, Gate, merged, type Admission, type Answer, type Engine, type GateOptions, type Head, type Outcome, type Told,
} from './gate.js'
import type { Names } from './names.js'
import { Asking, byAddress, Verbs, type Rule } from './rule.js'
import type { Awaitable } from './store.js'

export { admissionOf } from './gate.js'
export type { Admission, Answer, Engine } from './gate.js'
export { byAddress } from './rule.js'
export type { Client, Rule } from './rule.js'

/** A handler of requests. What follows the request is the server's. */
export type FetchHandler<R extends Request = Request, More extends unknown[] = []> =
  (request: R, ...more: More) => Awaitable<Response>

/** Puts what a rule asks before a handler. */
export type FetchRule = <R extends Request, More extends unknown[]>(handler: FetchHandler<R, More>) =>
(request: R, ...more: More) => Promise<Response>

/** What can be chosen, besides what the gate knows. */
export interface FetchOptions extends GateOptions<Request> {
  /**
   * The address of the other end of the connection, which a `Request` does not have: of what a handler is given, such as
   * `(request, server) => server.requestIP(request)?.address` on Bun.
   */
  readonly peer?: { of (request: Request, ...more: never[]): string | undefined }['of']
  /** Answers in place of this module, where a request is denied or could not be decided. Header fields are added to it. */
  readonly onDenied?: (request: Request, answer: Answer) => Awaitable<Response>
}

/** The head of a request. */
export function headOf ({ headers }: Request, peer: string | undefined): Head {
  const read = (name: string): string | undefined => headers.get(name) ?? undefined
  const names = ['authorization', 'x-api-key', 'x-forwarded-for']
  return { headers: Object.fromEntries(names.map(name => [name, read(name)])), peer }
}

/** The answer, in place of what was asked for. */
export function refusal ({ status, contentType, body }: Answer): Response {
  return new Response(body, { status, headers: { 'content-type': contentType } })
}

/** Tells the client of its limits. It is the same response where its header fields can be changed. */
export function told (response: Response, { fields, answer }: Outcome): Response {
  const add = (headers: Headers): void => {
    for (const [name, value] of fields) headers.set(name, merged(name, value, headers.get(name) ?? undefined, answer))
  }
  try {
    add(response.headers)
    return response
  } catch (error) {
    // Those of a redirection, or of what was fetched elsewhere.
    if (!(error instanceof TypeError)) throw error
    const headers = new Headers(response.headers)
    add(headers)
    return new Response(response.body, { status: response.status, statusText: response.statusText, headers })
  }
}

/** Gives back what was reserved for a response, once its last part was read, it has failed, or nobody waits for it. */
export function lettingGo (response: Response, { reservation }: Admission, signal: AbortSignal | undefined): Response {
  if (reservation === null) return response
  const over = (): void => { reservation.letGo() }
  // Not at once: whoever streams the response may have something to commit when it ends, and is told of it after this.
  const gone = (): void => { setImmediate(over) }
  // Of a response that cannot be made anew, the end is not seen.
  const isSeen = response.body !== null && !response.body.locked && response.status >= 200
  if (!isSeen || signal?.aborted === true) gone()
  else signal?.addEventListener('abort', gone, { once: true })
  return isSeen ? new Response(ending(response.body as ReadableStream<Uint8Array>, over), response) : response
}

/** The same stream. Says when it is over. */
function ending (body: ReadableStream<Uint8Array>, over: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  return new ReadableStream<Uint8Array>({
    async pull (controller) {
      try {
        const { done, value } = await reader.read()
        if (!done) return controller.enqueue(value)
        over()
        controller.close()
      } catch (error) {
        over()
        throw error
      }
    },
    async cancel (reason) {
      try {
        await reader.cancel(reason)
      } finally {
        over()
      }
    },
  }, { highWaterMark: 0 })
}

/**
 * Puts what rules ask before handlers of requests.
 *
 * ```js
 * const quotas = fetchQuotas(quota, { subject: async request => (await sessionOf(request))?.userId, trustedHops: 1 })
 *
 * // A route handler of Next
 * export const GET = quotas.admit({ rate: 'api', costs: { searches: 1 } })(async request => {
 *   const { decision } = admissionOf(request)
 *   return Response.json(await found(decision.subject))
 * })
 * ```
 *
 * One rule asks the engine once, for all that it names. `quota` may be the promise that `Quota.open` returns.
 */
export function fetchQuotas<N extends Names = Names> (quota: Engine<N>, options: FetchOptions = {}): FetchQuotas<N> {
  return new FetchQuotas(quota, options)
}

/** See {@link fetchQuotas}. */
export class FetchQuotas<N extends Names = Names> extends Verbs<Request, N, FetchRule> {
  readonly #gate: Gate<Request>
  readonly #options: FetchOptions
  readonly #peers = new WeakMap<Request, string>()

  /** @internal */
  constructor (quota: Engine<N>, options: FetchOptions) {
    super()
    const { peer: _, onDenied: __, ...general } = options
    this.#gate = new Gate<Request>(quota as Engine, general, request => headOf(request, this.#peers.get(request)))
    this.#options = options
  }

  /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
  override admit (rule: Rule<Request, N>): FetchRule {
    // Everybody would share one address, and one client keep all others out.
    if (rule.rateKey === byAddress && this.#options.peer === undefined && (this.#options.trustedHops ?? 0) === 0) {
      throw refused('peer', 'nothing', 'a function that finds the address of the other end, because a rule is by address')
    }
    const asking = new Asking<Request>(rule as Rule<Request>)
    return handler => async (request, ...more) => {
      this.#notePeer(request, more)
      const outcome = await this.#gate.ask(request, asking)
      if (outcome.answer !== null) return told(await this.#refusal(request, outcome.answer), outcome)
      if (outcome.admission === null) return await handler(request, ...more)
      admit(request, outcome.admission)
      try {
        return lettingGo(told(await handler(request, ...more), outcome), outcome.admission, request.signal)
      } catch (error) {
        outcome.admission.reservation?.letGo()
        throw error
      }
    }
  }

  /** A handler that answers with the plan and all the usage of whoever asks, as JSON: an account page. */
  usage (): FetchHandler {
    return async request => await this.#telling(request, await this.#gate.usage(request))
  }

  /** A handler that answers with the plans that there are, cheapest first, as JSON: a price list. */
  plans (): FetchHandler {
    return async request => await this.#telling(request, await this.#gate.plans(request))
  }

  #notePeer (request: Request, more: unknown[]): void {
    const peer = this.#options.peer?.(request, ...more as never[])
    if (peer !== undefined) this.#peers.set(request, peer)
  }

  async #telling (request: Request, { value, answer }: Told<unknown>): Promise<Response> {
    if (answer === null) return Response.json(value)
    return told(await this.#refusal(request, answer), { admission: null, fields: answer.fields, answer })
  }

  async #refusal (request: Request, answer: Answer): Promise<Response> {
    return await this.#options.onDenied?.(request, answer) ?? refusal(answer)
  }
}
