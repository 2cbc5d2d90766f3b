// Requests: everything that one call may ask an engine to decide, and how it is written for the addon.

import { entries, featureValue, onlyKeys, plain, refused, refusedValue, text, token, units, whole } from './argument.js'
import type { Costs, FeatureValue, Names } from './names.js'

/** The key of a rate: any text, or an address. An IPv6 address counts for its /64. */
export type RateKey = string | {
  /** An IPv4 or IPv6 address. */
  readonly ip: string
}

/** Features that a plan must have: names, pairs of a name and a value, or an object of both. */
export type FeaturesAsked<N extends Names = Names> =
  | readonly (N['feature'] | readonly [N['feature'], FeatureValue])[]
  | { readonly [F in N['feature']]?: FeatureValue }

/**
 * Everything that one request asks for: a rate, features and costs, all or nothing.
 *
 * It is by a subject, by whomever a token speaks for, or, with a `rateKey`, by nobody who is known.
 */
export interface AdmitRequest<N extends Names = Names> {
  /** Who asks. */
  readonly subject?: string
  /** In place of the subject: a token, which the engine's verifier knows. */
  readonly token?: string
  /** What is charged, such as `{ searches: 1 }`. */
  readonly costs?: Costs<N>
  /** The scope that it counts on, for its subject or for `rateKey`. */
  readonly rate?: N['scope']
  /** Whom the rate counts for, where that is not the subject, such as `{ ip: '203.0.113.7' }`. */
  readonly rateKey?: RateKey
  /** How many times it counts; 1 by default. */
  readonly rateCost?: number
  /** Features that the plan must have, and how much of them. */
  readonly features?: FeaturesAsked<N>
  /** Under which it is charged once, however often it is asked. */
  readonly idempotencyKey?: string
}

/** @internal */
export const REQUEST_KEYS = ['subject', 'token', 'costs', 'rate', 'rateKey', 'rateCost', 'features', 'idempotencyKey']

/** Costs as the addon reads them: pairs. @internal */
export function writeCosts (costs: unknown): [string, number][] {
  plain('costs', costs, 'an object of units by metric')
  return entries('costs', costs, units)
}

/** @internal */
export function writeRateKey (argument: string, key: unknown): RateKey {
  if (typeof key === 'string') return text(argument, key)
  const ip = typeof key === 'object' && key !== null ? (key as { ip?: unknown }).ip : undefined
  if (typeof ip === 'string') {
    return { ip }
  }
  throw refusedValue(argument, key, 'a text, or an address: { ip: \'203.0.113.7\' }')
}

function writeFeatures (features: unknown): [string, FeatureValue | null][] {
  if (!Array.isArray(features)) {
    if (typeof features === 'string') throw refusedValue('features', features, 'a list of names')
    return entries('features', features, featureValue)
  }
  return features.map((feature: unknown) => {
    if (typeof feature === 'string') return [text('features', feature), null]
    if (!Array.isArray(feature) || feature.length !== 2) {
      throw refusedValue('features', feature, 'names, pairs of a name and a value, or an object of both')
    }
    const name = text('features', feature[0])
    return [name, featureValue(name, feature[1])]
  })
}

/** A request as the addon reads it. @internal */
export function writeRequest (request: AdmitRequest): Record<string, unknown> {
  onlyKeys('request', plain('request', request, 'an object'), REQUEST_KEYS)
  const { subject, token: given, costs, rate, rateKey, rateCost, features, idempotencyKey } = request
  if (subject !== undefined && given !== undefined) throw refused('token', 'a subject too', 'one of them')
  return {
    ...(subject === undefined ? {} : { subject: text('subject', subject) }),
    ...(given === undefined ? {} : { token: token(given) }),
    costs: costs === undefined ? [] : writeCosts(costs),
    ...(rate === undefined ? {} : { rate: text('rate', rate) }),
    ...(rateKey === undefined ? {} : { rateKey: writeRateKey('rateKey', rateKey) }),
    ...(rateCost === undefined ? {} : { rateCost: whole('rateCost', rateCost) }),
    ...(features === undefined ? {} : { features: writeFeatures(features) }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey: text('idempotencyKey', idempotencyKey) }),
  }
}
