// Quotas for Fastify: a plugin that asks an engine before the handlers of routes.

import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'

import { refusedValue, word } from './argument.js'
import { admit, Gate, type Admission, type Answer, type Engine, type GateOptions } from './gate.js'
import type { Names } from './names.js'
import { fielded, letGoAfter, refuse, tell } from './response.js'
import { Asking, type Rule } from './rule.js'

export { admissionOf } from './gate.js'
export type { Admission, Answer, Engine } from './gate.js'
export { byAddress } from './rule.js'
export type { Client } from './rule.js'

/** What every request to a route asks for. */
export type FastifyRule<N extends Names = Names> = Rule<FastifyRequest, N>

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What is asked for requests to this route, besides what is asked for all; `false` for nothing at all. */
    quotum?: FastifyRule | readonly FastifyRule[] | false
  }
  interface FastifyRequest {
    /** How the request was let in; null where nothing was asked for it. */
    quotum: Admission | null
  }
}

const HOOKS = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const

/** What can be chosen, besides what the gate knows. */
export interface FastifyQuotasOptions extends GateOptions<FastifyRequest> {
  /** The engine, or the promise of one. */
  readonly quota: Engine
  /** When requests are asked about; `'onRequest'` by default. */
  readonly hook?: (typeof HOOKS)[number]
  /** What is asked for every route whose `config.quotum` is not `false`, before what that asks. */
  readonly default?: FastifyRule | readonly FastifyRule[]
  /** Which requests pass without being asked about: by a function, or by the addresses that they come from. */
  readonly allowList?: readonly string[] | Skip
  /**
   * What is thrown in place of the problem document, for the error handler to answer with, where a request is denied or
   * could not be decided. The status and the header fields have been set.
   */
  readonly errorResponseBuilder?: (request: FastifyRequest, answer: Answer) => object
}

const OWN = ['quota', 'hook', 'default', 'allowList', 'errorResponseBuilder']

type Rules = FastifyRule | readonly FastifyRule[] | false | undefined

const NOTHING: readonly Asking<FastifyRequest>[] = []

/** Rules that have been checked, by what a route's `config` has. */
class Checked {
  readonly #checked = new WeakMap<object, readonly Asking<FastifyRequest>[]>()

  of (rules: Rules): readonly Asking<FastifyRequest>[] {
    if (rules === undefined || rules === false) return NOTHING
    const known = this.#checked.get(rules)
    if (known !== undefined) return known
    const checked = [rules].flat().map(rule => new Asking(rule as FastifyRule))
    this.#checked.set(rules, checked)
    return checked
  }
}

type Skip = GateOptions<FastifyRequest>['skip']

/** What is skipped: by either option. */
function skipped (gate: () => Gate<FastifyRequest>, { skip, allowList }: FastifyQuotasOptions): Skip {
  if (allowList === undefined) return skip
  if (typeof allowList !== 'function' && !Array.isArray(allowList)) {
    throw refusedValue('allowList', allowList, 'a list of addresses, or a function')
  }
  const isAllowed = typeof allowList === 'function'
    ? allowList
    : (request: FastifyRequest) => allowList.includes(gate().address(request).ip)
  return async request => await skip?.(request) === true || await isAllowed(request)
}

async function quotumPlugin (app: FastifyInstance, options: FastifyQuotasOptions): Promise<void> {
  const { quota, hook = 'onRequest', default: always, allowList: _, errorResponseBuilder, ...general } = options
  // An engine that cannot be opened keeps the server from starting.
  const opened = await quota
  const skip = skipped((): Gate<FastifyRequest> => gate, options)
  const head = ({ headers, socket }: FastifyRequest): { headers: typeof headers, peer: string | undefined } =>
    ({ headers, peer: socket.remoteAddress })
  const gate = new Gate<FastifyRequest>(opened, skip === undefined ? general : { ...general, skip }, head, OWN)
  const checked = new Checked()
  const first = checked.of(always)

  /** Whether a request may go on. */
  const isLetIn = async (request: FastifyRequest, reply: FastifyReply, rule: Asking<FastifyRequest>): Promise<boolean> => {
    const outcome = await gate.ask(request, rule)
    // First of all: whatever goes wrong, what is reserved is given back.
    if (outcome.admission !== null) letGoAfter(reply.raw, outcome.admission)
    tell(fielded(reply), outcome)
    if (outcome.admission !== null) request.quotum = admit(request, outcome.admission)
    if (outcome.answer === null) return true
    if (errorResponseBuilder !== undefined) {
      reply.code(outcome.answer.status)
      throw errorResponseBuilder(request, outcome.answer)
    }
    refuse(reply, outcome.answer)
    return false
  }

  const ask = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> => {
    const rules = request.routeOptions.config.quotum
    if (rules === false || request.is404) return undefined
    for (const rule of [...first, ...checked.of(rules)]) {
      if (!await isLetIn(request, reply, rule)) return reply
    }
    return undefined
  }

  app.decorateRequest('quotum', null)
  // A mistake in a rule keeps the server from starting, too.
  app.addHook('onRoute', route => { checked.of(route.config?.quotum) })
  switch (word('hook', hook, HOOKS)) {
    case 'onRequest': app.addHook('onRequest', ask); break
    case 'preParsing': app.addHook('preParsing', async (request, reply) => { await ask(request, reply) }); break
    case 'preValidation': app.addHook('preValidation', ask); break
    case 'preHandler': app.addHook('preHandler', ask); break
  }
}

/**
 * The plugin: asks an engine for the requests to every route, what `default` and the route's `config` say.
 *
 * ```js
 * await app.register(fastifyQuotas, { quota, subject: request => request.user?.id, default: { rate: 'api' } })
 *
 * app.get('/search', { config: { quotum: { costs: { searches: 1 } } } }, search)
 * app.post('/login', { config: { quotum: { rate: 'login', rateKey: byAddress } } }, login)
 * app.get('/health', { config: { quotum: false } }, health)
 * app.post('/chat', { config: { quotum: { costs: { tokens: 2_000 }, reserveMs: 600_000 } } }, async request => {
 *   const { reservation } = request.quotum
 *   // … answer, and before its end:
 *   await reservation.commit({ tokens })
 * })
 * ```
 *
 * One rule asks the engine once, for all that it names. It asks for routes of the app that registers it and of the plugins
 * that this registers afterwards.
 */
export const fastifyQuotas: FastifyPluginAsync<FastifyQuotasOptions> =
  fastifyPlugin(quotumPlugin, { name: 'quotum', fastify: '>=4' })
