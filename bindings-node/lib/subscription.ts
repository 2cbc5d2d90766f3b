// Subscriptions: which plan a subject is on.

import { entries, featureValue, onlyKeys, plain, refusedValue, text, time, word } from './argument.js'
import { date } from './decision.js'
import type { FeatureValue, Limits, Names } from './names.js'

/** The states of a subscription. */
export type Status = 'trialing' | 'active' | 'past_due' | 'paused' | 'canceled'

/** @internal */
export const STATUSES = ['trialing', 'active', 'past_due', 'paused', 'canceled'] as const

/** What one subject has in place of what its plan says. What is not named is as in the plan. */
export interface Overrides<N extends Names = Names> {
  /** Features by name. */
  readonly features?: { readonly [F in N['feature']]?: FeatureValue }
  /** All limits of a metric, by metric, such as `{ searches: ['5/day', '100/month'] }`. */
  readonly quotas?: { readonly [M in N['metric']]?: Limits }
}

/** What is to be said of a subscription, besides its plan. */
export interface SubscriptionFields<N extends Names = Names> extends Overrides<N> {
  /** The state it is in; `'active'` by default. */
  readonly status?: Status
  /** When it came into that state; now, by default. */
  readonly since?: Date | null
  /** When its trial ends. */
  readonly trialEndsAt?: Date | null
  /** When what was paid for ends. */
  readonly expiresAt?: Date | null
  /** From when billing periods are counted. */
  readonly anchor?: Date | null
  /** The IANA zone of its calendar periods, where it is not that of the plans. */
  readonly zone?: string | null
  /** The account it belongs to, such as its team. */
  readonly account?: string | null
}

/** A subscription, as a function of the host's says it. */
export interface SubscriptionSource<N extends Names = Names> extends SubscriptionFields<N> {
  /** The id of the plan. */
  readonly plan: N['plan']
}

/** Which plan a subject is on, since when and until when. */
export interface Subscription<N extends Names = Names> {
  /** The id of the plan. */
  readonly plan: N['plan']
  /** The state it is in. */
  readonly status: Status
  /** When it came into that state. */
  readonly since: Date
  /** When its trial ends. */
  readonly trialEndsAt: Date | null
  /** When what was paid for ends. */
  readonly expiresAt: Date | null
  /** From when billing periods are counted. */
  readonly anchor: Date | null
  /** The IANA zone of its calendar periods, where it is not that of the plans. */
  readonly zone: string | null
  /** The account it belongs to, such as its team. */
  readonly account: string | null
  /** Features that it has in place of its plan's. */
  readonly features: Readonly<Record<string, FeatureValue>>
  /** Limits that it has in place of its plan's, by metric. */
  readonly quotas: Readonly<Record<string, readonly string[]>>
}

/** A subject that has a subscription, as a listing shows it. */
export interface Subscriber<N extends Names = Names> {
  /** Who. */
  readonly subject: string
  /** What it has subscribed to. */
  readonly subscription: Subscription<N>
}

/** How many subjects have a subscription to a plan in a state. */
export interface Census<N extends Names = Names> {
  /** The id of the plan. */
  readonly plan: N['plan']
  /** The state. */
  readonly status: Status
  /** How many subjects. */
  readonly subjects: number
}

/** @internal */
export interface WireSubscription {
  plan: string
  status: Status
  since: string
  trial_ends_at?: string | null
  expires_at?: string | null
  anchor?: string | null
  zone?: string | null
  account?: string | null
  overrides?: { features?: Record<string, FeatureValue>, quotas?: Record<string, string[]> }
}

/** @internal */
export function readSubscription<N extends Names> (wire: WireSubscription): Subscription<N> {
  return Object.freeze({
    plan: wire.plan as N['plan'],
    status: wire.status,
    since: date(wire.since) as Date,
    trialEndsAt: date(wire.trial_ends_at),
    expiresAt: date(wire.expires_at),
    anchor: date(wire.anchor),
    zone: wire.zone ?? null,
    account: wire.account ?? null,
    features: Object.freeze(wire.overrides?.features ?? {}),
    quotas: Object.freeze(wire.overrides?.quotas ?? {}),
  })
}

/** @internal */
export function readSubscriber<N extends Names> (wire: { subject: string, subscription: WireSubscription }): Subscriber<N> {
  return Object.freeze({ subject: wire.subject, subscription: readSubscription<N>(wire.subscription) })
}

function readLimits (metric: string, given: unknown): string[] {
  const limits = typeof given === 'string' ? [given] : given
  if (!Array.isArray(limits)) throw refusedValue(metric, given, 'a limit such as \'50/month\', or a list of them')
  return limits.map(limit => text(metric, limit))
}

/** @internal */
export function writeOverrides (overrides: Overrides): Record<string, unknown> {
  const { features, quotas } = overrides
  return {
    ...(features === undefined ? {} : { features: Object.fromEntries(entries('features', features, featureValue)) }),
    ...(quotas === undefined ? {} : { quotas: Object.fromEntries(entries('quotas', quotas, readLimits)) }),
  }
}

const FIELDS = ['status', 'since', 'trialEndsAt', 'expiresAt', 'anchor', 'zone', 'account', 'features', 'quotas']

/** A field, where there is one. */
function given<T, W> (name: string, value: T | null | undefined, write: (argument: string, value: T) => W): Record<string, W> {
  return value === undefined || value === null ? {} : { [name]: write(name, value) }
}

/** A subscription as the addon reads it. @internal */
export function writeSubscription (plan: string, fields: SubscriptionFields): Record<string, unknown> {
  onlyKeys('subscription', plain('subscription', fields, 'an object'), [...FIELDS, 'plan'])
  return {
    plan: text('plan', plan),
    ...given('status', fields.status, (argument, status) => word(argument, status, STATUSES)),
    ...given('since', fields.since, time),
    ...given('trialEndsAt', fields.trialEndsAt, time),
    ...given('expiresAt', fields.expiresAt, time),
    ...given('anchor', fields.anchor, time),
    ...given('zone', fields.zone, text),
    ...given('account', fields.account, text),
    overrides: writeOverrides(fields),
  }
}
