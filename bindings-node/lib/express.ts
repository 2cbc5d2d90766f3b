// Quotas for Express 4 and 5, and for whatever else has handlers of `(request, response, next)` on node:http.

import type { IncomingMessage, ServerResponse } from 'node:http'

import { admit, Gate, type Admission, type Answer, type Engine, type GateOptions, type Told } from './gate.js'
import type { Names } from './names.js'
import { letGoAfter, refuse, send, tell } from './response.js'
import { Asking, Verbs, type Rule } from './rule.js'

export { admissionOf } from './gate.js'
export type { Admission, Answer, Engine } from './gate.js'
export { byAddress } from './rule.js'
export type { Client, Rule } from './rule.js'

declare global {
  // Express's own place for what middlewares add to requests; it is there, and empty, without Express too.
  namespace Express {
    interface Request {
      /** How the request was let in, by `quotum/express`. */
      quotum?: Admission
    }
  }
}

/** A request, with what middlewares have declared to add to it, and what Express and its parsers have put there. */
export interface ExpressRequest extends IncomingMessage, Express.Request {
  /** What a parser has read of the body. */
  readonly body?: any
  /** The parameters of the route. */
  readonly params?: any
  /** The query. */
  readonly query?: any
}

/** Goes on to the next handler, or to that of errors. */
export type Next = (error?: unknown) => void

/** What Express calls a `RequestHandler`. */
export type Handler = (request: IncomingMessage, response: ServerResponse, next: Next) => void

/** What Express calls an `ErrorRequestHandler`. */
export type ErrorHandler = (error: unknown, request: IncomingMessage, response: ServerResponse, next: Next) => void

/** What can be chosen, besides what the gate knows. */
export interface ExpressOptions extends GateOptions<ExpressRequest> {
  /**
   * Answers in place of this module, where a request is denied or could not be decided. The status and the header fields
   * have been set; the body is `answer.body`, a problem document in JSON, or one's own.
   */
  handler? (request: ExpressRequest, response: ServerResponse, next: Next, answer: Answer): unknown
}

/**
 * Makes handlers that ask an engine before those of a route.
 *
 * ```js
 * const quotas = expressQuotas(quota, { subject: request => request.user?.id, trustedHops: 1 })
 *
 * app.get('/search', quotas.admit({ rate: 'api', costs: { searches: 1 } }), search)
 * app.post('/login', quotas.rate('login', byAddress), login)
 * app.get('/history', quotas.require('max_history_days', request => Number(request.query.days)), history)
 * app.post('/chat', quotas.reserve({ tokens: 2_000 }, { ttlMs: 600_000 }), async (request, response) => {
 *   const { reservation } = request.quotum
 *   // … stream the answer, and before its end:
 *   await reservation.commit({ tokens })
 * })
 * app.get('/plans', quotas.plans())
 * app.get('/me', quotas.usage())
 * ```
 *
 * One handler asks the engine once, for all that it names. `quota` may be the promise that `Quota.open` returns.
 */
export function expressQuotas<N extends Names = Names> (quota: Engine<N>, options: ExpressOptions = {}): ExpressQuotas<N> {
  return new ExpressQuotas(quota, options)
}

/** See {@link expressQuotas}. */
export class ExpressQuotas<N extends Names = Names> extends Verbs<ExpressRequest, N, Handler> {
  readonly #gate: Gate<ExpressRequest>
  readonly #handler: ExpressOptions['handler']

  /** @internal */
  constructor (quota: Engine<N>, options: ExpressOptions) {
    super()
    const head = ({ headers, socket }: ExpressRequest): { headers: typeof headers, peer: string | undefined } =>
      ({ headers, peer: socket.remoteAddress })
    this.#gate = new Gate<ExpressRequest>(quota as Engine, options, head, ['handler'])
    this.#handler = options.handler
  }

  /** The address that a request comes from, behind the trusted proxies, as the key of a rate or as a part of one. */
  address (request: IncomingMessage): { readonly ip: string } {
    return this.#gate.address(request as ExpressRequest)
  }

  /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
  override admit (rule: Rule<ExpressRequest, N>): Handler {
    const asking = new Asking<ExpressRequest>(rule as Rule<ExpressRequest>)
    return this.#handling(async (request, response, next) => {
      const outcome = await this.#gate.ask(request, asking)
      // First of all: whatever goes wrong, what is reserved is given back.
      if (outcome.admission !== null) letGoAfter(response, outcome.admission)
      // Somebody else may have answered meanwhile, such as a middleware that does not wait so long.
      if (response.headersSent) return false
      tell(response, outcome)
      if (outcome.answer !== null) return await this.#refuse(request, response, next, outcome.answer)
      if (outcome.admission !== null) request.quotum = admit(request, outcome.admission)
      return true
    })
  }

  /** A handler that answers with the plan and all the usage of whoever asks, as JSON: an account page. */
  usage (): Handler {
    return this.#telling(async request => await this.#gate.usage(request))
  }

  /** A handler that answers with the plans that there are, cheapest first, as JSON: a price list. */
  plans (): Handler {
    return this.#telling(async request => await this.#gate.plans(request))
  }

  /**
   * A handler of errors, to be put after all others: what an endpoint asks the engine itself, such as `commit`, may be denied
   * or fail too, and is answered as a denial before it would have been. Other errors go on to the next handler.
   *
   * ```js
   * app.use(quotas.errors())
   * ```
   */
  errors (): ErrorHandler {
    return (error, request, response, next) => {
      const answer = this.#gate.answer(error, request as ExpressRequest)
      if (answer === null || response.headersSent) return next(error)
      tell(response, { admission: null, fields: answer.fields, answer })
      this.#refuse(request as ExpressRequest, response, next, answer).catch(next)
    }
  }

  #telling<T>(found: (request: ExpressRequest) => Promise<Told<T>>): Handler {
    return this.#handling(async (request, response, next) => {
      const { value, answer } = await found(request)
      if (answer !== null) {
        tell(response, { admission: null, fields: answer.fields, answer })
        return await this.#refuse(request, response, next, answer)
      }
      send(response, 200, 'application/json', JSON.stringify(value))
      return false
    })
  }

  async #refuse (request: ExpressRequest, response: ServerResponse, next: Next, answer: Answer): Promise<false> {
    if (this.#handler === undefined) {
      refuse(response, answer)
    } else {
      response.statusCode = answer.status
      response.setHeader('content-type', answer.contentType)
      await this.#handler(request, response, next, answer)
    }
    return false
  }

  /** A handler that goes on to the next one where `handle` says so. What the next one throws is its own to tell. */
  #handling (handle: (request: ExpressRequest, response: ServerResponse, next: Next) => Promise<boolean>): Handler {
    return (request, response, next) => {
      handle(request as ExpressRequest, response, next).then(goesOn => { if (goesOn) next() }, next)
    }
  }
}
