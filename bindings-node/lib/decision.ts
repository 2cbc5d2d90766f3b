// Decisions: plain, frozen objects, and how they are read from the core's JSON and written for it again.

import type { FeatureValue } from './names.js'

/** Why a request is denied. */
export type Reason = (typeof REASONS)[number]

/** All reasons for which a request can be denied. */
export const REASONS = [
  'quota_exhausted',
  'never_fits',
  'feature_not_in_plan',
  'feature_value_exceeded',
  'trial_expired',
  'subscription_inactive',
  'rate_limited',
  'unauthenticated',
  'store_unavailable',
] as const

/** How often a quota starts afresh. `total` never does. */
export type Period =
  | 'minute' | 'hour' | 'day' | 'week' | 'month' | 'year'
  | 'billing_day' | 'billing_week' | 'billing_month' | 'billing_year'
  | 'total'

/** Allowed, or denied and why. */
export interface Decision {
  /** Whether the request may go on. */
  readonly allowed: boolean
  /** Who asked; null where that is not known. */
  readonly subject: string | null
  /** The id of the plan that decided; null where none did. */
  readonly plan: string | null
  /** Which edition of that plan; null where none decided. */
  readonly planVersion: number | null
  /** The quotas that were asked about, as they stand after the decision. */
  readonly quotas: readonly QuotaState[]
  /** The windows of the rate that was asked about, as they stand after the decision. */
  readonly rates: readonly RateState[]
  /** Whom the token speaks for, where the request was made with one. */
  readonly identity: Identity | null
  /** Why not, where the request is denied; null where it is allowed. */
  readonly denied: Denial | null
  /** Why the request would have been denied, were the quota enforced; null where it would not. */
  readonly wouldDeny: Denial | null
  /** Why the request is denied, in a word; null where it is allowed. */
  readonly reason: Reason | null
  /** The id of the cheapest plan by rank that would have allowed the request; null where there is none. */
  readonly upgradeTo: string | null
  /** Whether it was allowed without asking the store, which could not answer. */
  readonly degraded: boolean
  /** Whether this is the answer to an earlier request with the same idempotency key, given again. */
  readonly repeated: boolean
}

/** One quota of a subject, as it stands. */
export interface QuotaState {
  /** What is counted. */
  readonly metric: string
  /** How often it starts afresh; null where nothing is counted. */
  readonly period: Period | null
  /** How many units the period allows, bonus included; null without a limit. */
  readonly limit: number | null
  /** Units used in this period. */
  readonly used: number
  /** Units set aside by reservations that are still open. */
  readonly held: number
  /** Units in leased blocks, of which this process knows no use. */
  readonly leased: number
  /** Of these, the units in other processes' blocks. */
  readonly stranded: number
  /** Units granted in this period on top of the plan's limit. */
  readonly bonus: number
  /** Units consumed in this period that did not fit. */
  readonly overage: number
  /** Units left; null without a limit. */
  readonly remaining: number | null
  /** When the period ends; null where it never does. */
  readonly resetsAt: Date | null
  /** How much of the limit is used, in whole percent rounded down; null without a limit. */
  readonly percent: number | null
  /** Whether 80 % or more of the limit is used. */
  readonly warning: boolean
  /** Whether all members of the subject's account share it. */
  readonly shared: boolean
}

/** How one window of a rate stands. */
export interface RateState {
  /** What the rate limits. */
  readonly scope: string
  /** The limit as plans write it, such as `'10/minute'`. */
  readonly limit: string
  /** How many units a window's length allows. */
  readonly units: number
  /** How many of them at once. */
  readonly burst: number
  /** The length of the window, in seconds. */
  readonly windowS: number
  /** The most units that this window would still allow now. */
  readonly remaining: number
  /** How long until the window is as good as unused, in milliseconds rounded up. */
  readonly resetAfterMs: number
}

/** Why a request is denied, and what would help. */
export interface Denial {
  /** The reason, in a word. */
  readonly reason: Reason
  /** The same in a sentence, for developers and logs. */
  readonly message: string
  /** The metric whose quota denied, where one did. Of several, the one that is free again last. */
  readonly metric: string | null
  /** The period of that quota. */
  readonly period: Period | null
  /** How many units were asked for. */
  readonly requested: number | null
  /** The limit of that quota or rate, in units. */
  readonly limit: number | null
  /** How many units of it are used. */
  readonly used: number | null
  /** When that quota starts afresh. */
  readonly resetsAt: Date | null
  /** The scope whose rate denied, where one did. */
  readonly scope: string | null
  /** The length of that rate's window, in seconds. */
  readonly windowS: number | null
  /** How long to wait, in milliseconds, where that is known without a calendar. */
  readonly retryAfterMs: number | null
  /** The feature that denied, where one did. */
  readonly feature: string | null
  /** What was asked of the feature. */
  readonly featureRequested: FeatureValue | null
  /** What the plan has of it. */
  readonly featureGranted: FeatureValue | null
  /** When the trial or the subscription ended. */
  readonly endedAt: Date | null
  /** What the store said, where it could not answer: for operators, not for clients. */
  readonly cause: string | null
  /** The id of the cheapest plan by rank that would have allowed the request; null where there is none. */
  readonly upgradeTo: string | null
}

/** Whom a token speaks for, as a verifier has found. */
export interface Identity {
  /** Who is metered. */
  readonly subject: string
  /** When the token ceases to be valid, if it does by itself. */
  readonly expiresAt: Date | null
  /** What else the host has said of the caller. */
  readonly attributes: Readonly<Record<string, string>>
}

/** What the limiter alone has decided. */
export interface RateDecision {
  /** Whether the cost was taken. */
  readonly allowed: boolean
  /** Whether the cost is above what a window holds unused, so that waiting does not help. */
  readonly neverFits: boolean
  /** How long until the same cost would be taken, in milliseconds rounded up; null if it was, or never will be. */
  readonly retryAfterMs: number | null
  /** Each window, in the order of the rate's limits. */
  readonly windows: readonly RateState[]
}

/**
 * The tightest quota of a metric: the one with the fewest units left. Undefined where it was not asked about.
 *
 * ```js
 * const { remaining, resetsAt } = quotaOf(decision.quotas, 'searches')
 * ```
 */
export function quotaOf (quotas: readonly QuotaState[], metric: string): QuotaState | undefined {
  let tightest: QuotaState | undefined
  for (const state of quotas) {
    if (state.metric !== metric) continue
    if (tightest === undefined || (state.remaining ?? Infinity) < (tightest.remaining ?? Infinity)) tightest = state
  }
  return tightest
}

// The core's JSON. What is absent is null there or left out.

type Absent = null | undefined

/** @internal */
export interface WireQuota {
  metric: string
  period: Period | null
  limit: number | 'unlimited'
  used: number
  held: number
  leased: number
  stranded: number
  bonus: number
  overage: number
  remaining: number | null
  resets_at: string | null
  percent: number | null
  warning: boolean
  shared: boolean
}

interface WireDenial {
  reason: Reason
  metric?: string | Absent
  period?: Period | Absent
  requested?: number | Absent
  limit?: number | Absent
  used?: number | Absent
  resets_at?: string | Absent
  scope?: string | Absent
  window_s?: number | Absent
  retry_after_ms?: number | Absent
  feature?: string | Absent
  feature_requested?: FeatureValue | Absent
  feature_granted?: FeatureValue | Absent
  ended_at?: string | Absent
  cause?: string | Absent
  upgrade_to?: string | Absent
}

interface WireDecision {
  allowed: boolean
  subject: string | null
  plan: string | null
  plan_version: number | null
  quotas: WireQuota[]
  rates?: { scope: string, limit: string, remaining: number, reset_after_ms: number }[]
  denied?: WireDenial
  would_deny?: WireDenial
  degraded: boolean
  repeated: boolean
}

/** @internal */
export interface WireIdentity { subject: string, expires_at?: string | Absent, attributes?: Record<string, string> }

/** A decision, and what its own JSON leaves out. @internal */
export interface WireTold {
  decision: WireDecision
  identity?: WireIdentity
  message?: string
  rates: RateState[]
  reservation?: { number: number, id: string | null, expiresAt: string }
}

/** A time of the core's; null for none. @internal */
export function date (text: string | Absent): Date | null {
  return text === null || text === undefined ? null : new Date(text)
}

/** @internal */
export function readQuota (wire: WireQuota): QuotaState {
  return Object.freeze({
    metric: wire.metric,
    period: wire.period,
    limit: wire.limit === 'unlimited' ? null : wire.limit,
    used: wire.used,
    held: wire.held,
    leased: wire.leased,
    stranded: wire.stranded,
    bonus: wire.bonus,
    overage: wire.overage,
    remaining: wire.remaining,
    resetsAt: date(wire.resets_at),
    percent: wire.percent,
    warning: wire.warning,
    shared: wire.shared,
  })
}

/** @internal */
export function readQuotas (wire: WireQuota[]): readonly QuotaState[] {
  return Object.freeze(wire.map(readQuota))
}

/** Windows are told as they are. */
function readRates (windows: readonly RateState[]): readonly RateState[] {
  return Object.freeze(windows.map(window => Object.freeze(window)))
}

function readDenial (wire: WireDenial, message: string): Denial {
  return Object.freeze({
    reason: wire.reason,
    message,
    metric: wire.metric ?? null,
    period: wire.period ?? null,
    requested: wire.requested ?? null,
    limit: wire.limit ?? null,
    used: wire.used ?? null,
    resetsAt: date(wire.resets_at),
    scope: wire.scope ?? null,
    windowS: wire.window_s ?? null,
    retryAfterMs: wire.retry_after_ms ?? null,
    feature: wire.feature ?? null,
    featureRequested: wire.feature_requested ?? null,
    featureGranted: wire.feature_granted ?? null,
    endedAt: date(wire.ended_at),
    cause: wire.cause ?? null,
    upgradeTo: wire.upgrade_to ?? null,
  })
}

/** @internal */
export function readIdentity (wire: WireIdentity): Identity {
  return Object.freeze({
    subject: wire.subject,
    expiresAt: date(wire.expires_at),
    attributes: Object.freeze(wire.attributes ?? {}),
  })
}

/** @internal */
export function readDecision ({ decision: wire, identity, message, rates }: WireTold): Decision {
  const denied = wire.denied === undefined ? null : readDenial(wire.denied, message ?? '')
  return Object.freeze({
    allowed: wire.allowed,
    subject: wire.subject,
    plan: wire.plan,
    planVersion: wire.plan_version,
    quotas: readQuotas(wire.quotas),
    rates: readRates(rates),
    identity: identity === undefined ? null : readIdentity(identity),
    denied,
    wouldDeny: wire.would_deny === undefined ? null : readDenial(wire.would_deny, message ?? ''),
    reason: denied?.reason ?? null,
    upgradeTo: denied?.upgradeTo ?? null,
    degraded: wire.degraded,
    repeated: wire.repeated,
  })
}

/** A decision of the limiter's is told as it is. @internal */
export function readRateDecision (told: RateDecision): RateDecision {
  return Object.freeze({ ...told, windows: readRates(told.windows) })
}

function writeQuota (state: QuotaState): WireQuota {
  const { resetsAt, limit, ...same } = state
  return { ...same, limit: limit ?? 'unlimited', resets_at: resetsAt?.toISOString() ?? null }
}

function writeDenial (denial: Denial): WireDenial {
  return {
    reason: denial.reason,
    metric: denial.metric,
    period: denial.period,
    requested: denial.requested,
    limit: denial.limit,
    used: denial.used,
    resets_at: denial.resetsAt?.toISOString(),
    scope: denial.scope,
    window_s: denial.windowS,
    retry_after_ms: denial.retryAfterMs,
    feature: denial.feature,
    feature_requested: denial.featureRequested,
    feature_granted: denial.featureGranted,
    ended_at: denial.endedAt?.toISOString(),
    cause: denial.cause,
    upgrade_to: denial.upgradeTo,
  }
}

/** What the core reads a decision from again. @internal */
export function writeDecision (decision: Decision): WireDecision {
  return {
    allowed: decision.allowed,
    subject: decision.subject,
    plan: decision.plan,
    plan_version: decision.planVersion,
    quotas: decision.quotas.map(writeQuota),
    rates: decision.rates.map(rate => ({
      scope: rate.scope, limit: rate.limit, remaining: rate.remaining, reset_after_ms: rate.resetAfterMs,
    })),
    ...(decision.denied === null ? {} : { denied: writeDenial(decision.denied) }),
    ...(decision.wouldDeny === null ? {} : { would_deny: writeDenial(decision.wouldDeny) }),
    degraded: decision.degraded,
    repeated: decision.repeated,
  }
}
