// Quotas for Hono: middlewares that ask an engine before the handlers of a route.

import type { Context, MiddlewareHandler } from 'hono'

import { headOf, lettingGo, refusal, told } from './fetch.js'
import { admit, Gate, type Admission, type Answer, type Engine, type GateOptions, type Told } from './gate.js'
import type { Names } from './names.js'
import { Asking, Verbs, type Rule } from './rule.js'
import type { Awaitable } from './store.js'

export { admissionOf } from './gate.js'
export type { Admission, Answer, Engine } from './gate.js'
export { byAddress } from './rule.js'
export type { Client, Rule } from './rule.js'

/** A middleware. Later handlers find how the request was let in by `c.get('quotum')`. */
export type HonoHandler = MiddlewareHandler<{
  /** What it leaves for later handlers. */
  Variables: {
    /** How the request was let in. */
    quotum: Admission
  }
}>

/** What can be chosen, besides what the gate knows. */
export interface HonoOptions extends GateOptions<Context> {
  /**
   * The address of the other end of the connection, such as `c => getConnInfo(c).remote.address`, with the `getConnInfo` of
   * one's runtime. On `@hono/node-server` it is found without.
   */
  readonly peer?: (context: Context) => string | undefined
  /** Answers in place of this module, where a request is denied or could not be decided. Header fields are added to it. */
  readonly onDenied?: (context: Context, answer: Answer) => Awaitable<Response>
}

/** The other end, where a server of node:http has put its request. */
function peerOfNode ({ env }: Context): string | undefined {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } }
  return incoming?.socket?.remoteAddress
}

/**
 * Makes middlewares that ask an engine.
 *
 * ```js
 * const quotas = honoQuotas(quota, { subject: c => c.get('user')?.id, trustedHops: 1 })
 *
 * app.get('/search', quotas.admit({ rate: 'api', costs: { searches: 1 } }), c => c.json(c.get('quotum').decision.quotas))
 * app.post('/login', quotas.rate('login', byAddress), login)
 * app.get('/me', quotas.usage())
 * ```
 *
 * One middleware asks the engine once, for all that it names. `quota` may be the promise that `Quota.open` returns.
 */
export function honoQuotas<N extends Names = Names> (quota: Engine<N>, options: HonoOptions = {}): HonoQuotas<N> {
  return new HonoQuotas(quota, options)
}

/** See {@link honoQuotas}. */
export class HonoQuotas<N extends Names = Names> extends Verbs<Context, N, HonoHandler> {
  readonly #gate: Gate<Context>
  readonly #onDenied: HonoOptions['onDenied']

  /** @internal */
  constructor (quota: Engine<N>, options: HonoOptions) {
    super()
    const { peer = peerOfNode, onDenied, ...general } = options
    this.#gate = new Gate<Context>(quota as Engine, general, context => headOf(context.req.raw, peer(context)))
    this.#onDenied = onDenied
  }

  /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
  override admit (rule: Rule<Context, N>): HonoHandler {
    const asking = new Asking<Context>(rule as Rule<Context>)
    return async (context, next) => {
      const outcome = await this.#gate.ask(context, asking)
      if (outcome.answer !== null) return told(await this.#refusal(context, outcome.answer), outcome)
      if (outcome.admission === null) return await next()
      context.set('quotum', admit(context, outcome.admission))
      const letGo = (): void => { outcome.admission?.reservation?.letGo() }
      try {
        await next()
      } catch (error) {
        letGo()
        throw error
      }
      // What handlers throw is mostly answered by the app's own handler of errors, and not thrown here.
      if (context.error !== undefined) letGo()
      const response = lettingGo(told(context.res, outcome), outcome.admission, context.req.raw.signal)
      if (response === context.res) return
      // Otherwise the fields of the one would be put on the other once more.
      context.res = undefined
      context.res = response
    }
  }

  /** A handler that answers with the plan and all the usage of whoever asks, as JSON: an account page. */
  usage (): (context: Context) => Promise<Response> {
    return async context => await this.#telling(context, await this.#gate.usage(context))
  }

  /** A handler that answers with the plans that there are, cheapest first, as JSON: a price list. */
  plans (): (context: Context) => Promise<Response> {
    return async context => await this.#telling(context, await this.#gate.plans(context))
  }

  async #telling (context: Context, { value, answer }: Told<unknown>): Promise<Response> {
    if (answer === null) return Response.json(value)
    return told(await this.#refusal(context, answer), { admission: null, fields: answer.fields, answer })
  }

  async #refusal (context: Context, answer: Answer): Promise<Response> {
    return await this.#onDenied?.(context, answer) ?? refusal(answer)
  }
}
