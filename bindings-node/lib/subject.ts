// Handles: subjects that are asked about often.

import { plain, refused, text } from './argument.js'
import { decide, IS_HANDLE, IS_LOOK, MAY_ASK, UNWRITTEN } from './decide.js'
import { readDecision, type Decision, type WireTold } from './decision.js'
import type { Costs, FeatureValue, Names } from './names.js'
import { addon, home } from './addon.js'
import { begun, outcome } from './tasks.js'
import { writeRequest, type AdmitRequest } from './request.js'
import { signalOf, type CallOptions } from './reservation.js'

/** How something is charged. */
export interface ConsumeOptions extends CallOptions {
  /** Under which it is charged once, however often it is asked. */
  readonly idempotencyKey?: string
}

const forgotten = new FinalizationRegistry<number>(subject => { addon.dropSubject(home, subject) })

/**
 * A subject that is asked about often. What it is asked is decided as for its id, only faster, because what is known of the
 * subject need not be looked up.
 */
export class Subject<N extends Names = Names> {
  /** Whose handle it is. */
  readonly id: string
  /** Keeps the engine as long as this. */
  readonly #engine: { readonly number: number }
  readonly #number: number

  /** @internal */
  constructor (engine: { readonly number: number }, number: number, id: string) {
    this.#engine = engine
    this.#number = number
    this.id = id
    forgotten.register(this, number)
  }

  async #ask (request: AdmitRequest, more: Record<string, unknown>, signal: AbortSignal | undefined): Promise<Decision> {
    const ask = JSON.stringify({ verb: 'admit', ...writeRequest(request), handle: this.#number, ...more })
    return await begun(addon.ask(home, this.#engine.number, ask), told => readDecision(told as WireTold), signal)
  }

  #try (request: AdmitRequest, more: Record<string, unknown> = {}): Decision | undefined {
    const ask = JSON.stringify({ verb: 'admit', ...writeRequest(request), handle: this.#number, ...more, isTry: true })
    const told = outcome(addon.ask(home, this.#engine.number, ask) as string) as WireTold | null
    return told === null ? undefined : readDecision(told)
  }

  /** Decides on everything that one request asks for: see `Quota.admit`. */
  async admit (request: Omit<AdmitRequest<N>, 'subject' | 'token'>, options?: CallOptions): Promise<Decision> {
    for (const who of ['subject', 'token']) {
      if (who in plain('request', request, 'an object')) throw refused(who, 'one beside the handle\'s own', 'none')
    }
    return await this.#ask(request, {}, signalOf(options))
  }

  /** Charges every cost, or none where one does not fit: see `Quota.consume`. */
  async consume (costs: Costs<N>, options?: ConsumeOptions): Promise<Decision> {
    const signal = signalOf(options, ['signal', 'idempotencyKey'])
    const idempotencyKey = options?.idempotencyKey
    if (idempotencyKey !== undefined) return await this.#ask({ costs, idempotencyKey }, {}, signal)
    const decided = decide(this.#engine.number, this.#number, IS_HANDLE | MAY_ASK, this.id, costs, undefined, signal)
    return decided === UNWRITTEN ? await this.#ask({ costs }, {}, signal) : await decided as Decision
  }

  /** The same, where memory can tell; undefined where the store is needed: see `Quota.tryConsume`. */
  tryConsume (costs: Costs<N>): Decision | undefined {
    const decided = decide(this.#engine.number, this.#number, IS_HANDLE, this.id, costs)
    return decided === UNWRITTEN ? this.#try({ costs }) : decided as Decision | undefined
  }

  /** Whether it would be allowed now: see `Quota.check`. */
  async check (costs: Costs<N>, options?: CallOptions): Promise<Decision> {
    const signal = signalOf(options)
    const how = IS_HANDLE | IS_LOOK | MAY_ASK
    const decided = decide(this.#engine.number, this.#number, how, this.id, costs, undefined, signal)
    return decided === UNWRITTEN ? await this.#ask({ costs }, { isLook: true }, signal) : await decided as Decision
  }

  /** The same, where memory can tell; undefined where the store is needed: see `Quota.tryCheck`. */
  tryCheck (costs: Costs<N>): Decision | undefined {
    const decided = decide(this.#engine.number, this.#number, IS_HANDLE | IS_LOOK, this.id, costs)
    return decided === UNWRITTEN ? this.#try({ costs }, { isLook: true }) : decided as Decision | undefined
  }

  /** Whether the subject's plan has a feature, or as much of it as `value`: see `Quota.require`. */
  async require (name: N['feature'], value?: FeatureValue, options?: CallOptions): Promise<Decision> {
    const feature = text('name', name)
    return await this.#ask({ features: value === undefined ? [feature] : [[feature, value]] }, {}, signalOf(options))
  }
}
