// Rules: what every request to an endpoint asks for, and the verbs in which a backend says it.
//
// A part of a rule is a value, or a function that finds it for each request. No framework is known here.

import { onlyKeys, plain, refusedValue, span, text } from './argument.js'
import type { Costs, FeatureValue, Names } from './names.js'
import type { AdmitRequest, RateKey } from './request.js'
import type { Awaitable } from './store.js'

/** Who stands behind a request, for the functions that find parts of a rule. */
export interface Client {
  /** The address that the request comes from, behind the trusted proxies. All that have none share one. */
  readonly address: { readonly ip: string }
}

/** A function of a request and of who stands behind it. A method, for the compiler to take one of a narrower request too. */
export type Find<R, T> = {
  /** Finds it. */
  find (request: R, client: Client): Awaitable<T>
}['find']

/** A part of a rule: a value, or a function that finds it for each request. */
export type Part<R, T> = T | Find<R, T>

/** What a rule charges: units by metric, each of them or all together found for each request. */
export type CostParts<R, N extends Names = Names> =
  | { readonly [M in N['metric']]?: Part<R, number> }
  | Find<R, Costs<N>>

/**
 * Features that a rule requires: names, pairs of a name and a value, or an object of both. A function that finds nothing
 * requires the feature as such; one that finds `false` requires nothing.
 */
export type FeatureParts<R, N extends Names = Names> =
  | readonly (N['feature'] | readonly [N['feature'], Part<R, FeatureValue | undefined>])[]
  | { readonly [F in N['feature']]?: Part<R, FeatureValue | undefined> }

/** What every request to an endpoint asks for: a rate, features and costs, all or nothing. */
export interface Rule<R, N extends Names = Names> {
  /** What is charged, such as `{ searches: 1 }`. */
  readonly costs?: CostParts<R, N>
  /** The scope that it counts on, for whoever asks or for `rateKey`. */
  readonly rate?: N['scope']
  /**
   * Whom the rate counts for, where that is not whoever asks, such as {@link byAddress}. A rule about such a rate alone does
   * not ask who asks.
   */
  readonly rateKey?: Part<R, RateKey>
  /** How many times it counts; 1 by default. */
  readonly rateCost?: Part<R, number>
  /** Features that the plan must have, and how much of them. */
  readonly features?: FeatureParts<R, N>
  /**
   * Under which it is charged once, however often it is asked; nothing where there is none. Where clients choose it, the
   * handler looks at `decision.repeated`: the same key passes again, and is not charged again.
   */
  readonly idempotencyKey?: Part<R, string | readonly string[] | undefined>
  /**
   * Has the costs set aside only, for so many milliseconds at the most: the handler commits what was really used. What is
   * not committed is given back when the response has been sent, could not be sent, or when the client went away.
   */
  readonly reserveMs?: number
}

/** What else a reservation asks for. */
export interface ReserveRule<R, N extends Names = Names> extends Omit<Rule<R, N>, 'costs' | 'reserveMs'> {
  /** For how long, in milliseconds: longer than the longest response takes. */
  readonly ttlMs: number
}

/** The key of a rate: the client's address. For `rateKey`, and for the verb `rate`. */
export function byAddress (_request: unknown, client: Client): RateKey {
  return client.address
}

const KEYS = ['costs', 'rate', 'rateKey', 'rateCost', 'features', 'idempotencyKey', 'reserveMs']

type Pairs<R> = readonly (readonly [string, Part<R, FeatureValue | undefined>])[]

/** The features of a rule, as pairs. */
function pairs<R> (features: FeatureParts<R>): Pairs<R> {
  if (Array.isArray(features)) {
    return features.map((feature: unknown) => typeof feature === 'string' ? [feature, undefined] : feature as Pairs<R>[0])
  }
  return Object.entries(plain('features', features, 'a list of names, or an object of names and values'))
    .map(([name, value]) => [name, value as Part<R, FeatureValue | undefined>])
}

/** What a function has found to charge. A forgotten `return` is not to let everybody pass. */
function charged (costs: unknown): Costs {
  const found = plain('costs', costs, 'a function that returns an object of units by metric')
  if (Object.keys(found).length === 0) throw refusedValue('costs', costs, 'a function that returns at least one cost')
  return found as Costs
}

/** A rule that has been checked, so that a mistake is told when it is made and not when it is asked. @internal */
export class Asking<R> {
  /** Whether it does not matter who asks: it is about a rate alone, and for another key. */
  readonly isByAnyone: boolean
  /** For how long its costs are set aside; undefined where they are charged. */
  readonly reserveMs: number | undefined
  readonly #rule: Rule<R>
  readonly #features: Pairs<R>
  /** Whether it asks the same for every request. */
  readonly #isConstant: boolean
  #constant: AdmitRequest | undefined

  constructor (rule: Rule<R>) {
    onlyKeys('rule', plain('rule', rule, 'an object'), KEYS)
    const { costs, rate, rateKey, rateCost, features = [], idempotencyKey, reserveMs } = rule
    if (costs !== undefined && typeof costs !== 'function') plain('costs', costs, 'an object of units by metric')
    if (rate !== undefined) text('rate', rate)
    if (rate === undefined && rateKey !== undefined) throw refusedValue('rate', rate, 'a scope, because there is a rateKey')
    this.#rule = rule
    this.#features = pairs(features)
    const values = [...Object.values(costs ?? {}), ...this.#features.map(([, value]) => value)]
    const parts = [costs, rateKey, rateCost, idempotencyKey, ...values]
    this.#isConstant = !parts.some(part => typeof part === 'function')
    this.isByAnyone = rateKey !== undefined && costs === undefined && this.#features.length === 0
    this.reserveMs = reserveMs === undefined ? undefined : span('reserveMs', reserveMs)
    if (reserveMs !== undefined && costs === undefined) throw refusedValue('costs', costs, 'units to set aside')
  }

  /** What one request asks for. */
  async find (request: R, client: Client): Promise<AdmitRequest> {
    if (this.#constant !== undefined) return this.#constant
    const asked = await this.#find(request, client)
    if (this.#isConstant) this.#constant = asked
    return asked
  }

  async #find (request: R, client: Client): Promise<AdmitRequest> {
    const { costs, rate, rateKey, rateCost, idempotencyKey } = this.#rule
    const found = async <T>(part: Part<R, T>): Promise<T> =>
      typeof part === 'function' ? await (part as Find<R, T>)(request, client) : part
    const all = async <T>(parts: readonly (readonly [string, Part<R, T>])[]): Promise<[string, T][]> =>
      await Promise.all(parts.map(async ([name, part]): Promise<[string, T]> => [name, await found(part)]))
    const asked: { -readonly [K in keyof AdmitRequest]: AdmitRequest[K] } = {}
    if (typeof costs === 'function') {
      asked.costs = charged(await found(costs))
    } else if (costs !== undefined) {
      asked.costs = Object.fromEntries(await all(Object.entries(costs) as [string, Part<R, number>][]))
    }
    if (rate !== undefined) asked.rate = rate
    if (rateKey !== undefined) asked.rateKey = await found(rateKey)
    if (rateCost !== undefined) asked.rateCost = await found(rateCost)
    if (this.#features.length > 0) {
      const features = await all(this.#features)
      asked.features = features.map(([name, value]) => value === undefined ? name : [name, value])
    }
    const key = idempotencyKey === undefined ? undefined : await found(idempotencyKey)
    // A header field that was sent several times is one value, says HTTP.
    if (key !== undefined) asked.idempotencyKey = typeof key === 'string' ? key : key.join(', ')
    return asked
  }
}

/** The verbs by which a backend says what an endpoint asks for. What each makes, its framework puts before the endpoint. */
export abstract class Verbs<R, N extends Names, Made> {
  /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
  abstract admit (rule: Rule<R, N>): Made

  /** Charges every cost, or none. It stays charged, whatever then becomes of the request. */
  consume (costs: CostParts<R, N>, options: Pick<Rule<R, N>, 'idempotencyKey'> = {}): Made {
    return this.admit({ ...options, costs })
  }

  /** Requires a feature of the caller's plan, or as much of it as `value`. */
  require (feature: N['feature'], value?: Part<R, FeatureValue | undefined>): Made {
    const features: FeatureParts<R, N> = value === undefined ? [feature] : [[feature, value]]
    return this.admit({ features })
  }

  /** Counts on a scope's rate: for the caller, or for a key, such as {@link byAddress}. */
  rate (scope: N['scope'], key?: Part<R, RateKey>, cost?: Part<R, number>): Made {
    return this.admit({
      rate: scope,
      ...(key === undefined ? {} : { rateKey: key }),
      ...(cost === undefined ? {} : { rateCost: cost }),
    })
  }

  /**
   * Sets costs aside, for `ttlMs` at the most, for a handler that commits what was really used. What is not committed is
   * given back when the response has been sent, could not be sent, or when the client went away.
   */
  reserve (costs: CostParts<R, N>, options: ReserveRule<R, N>): Made {
    const { ttlMs, ...rule } = plain('options', options, 'an object with ttlMs') as unknown as ReserveRule<R, N>
    return this.admit({ ...rule, costs, reserveMs: span('ttlMs', ttlMs) })
  }
}
