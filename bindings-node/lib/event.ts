// Events: what happened, and the log of it.

import { date, type Period, type Reason } from './decision.js'

/** What can happen. */
export type EventName = (typeof EVENT_NAMES)[number]

/** The names of all events. */
export const EVENT_NAMES = [
  'quota_check_success',
  'quota_exhausted',
  'quota_threshold_reached',
  'rate_limited',
  'trial_expired',
  'feature_blocked',
  'feature_value_blocked',
  'subscription_inactive',
  'unauthenticated',
  'quota_check_error',
  'degraded_grant',
  'plan_changed',
  'subscription_changed',
  'enforcement_changed',
  'usage_adjusted',
  'token_forgotten',
  'rates_cleared',
  'cache_evicted',
  'hold_expired',
  'leases_recalled',
] as const

/** One thing that happened, with what is known of it. */
export interface QuotaEvent {
  /** Its place in the store's log, from 1; 0 for an event that no store has kept. */
  readonly sequence: number
  /** What happened. */
  readonly name: EventName
  /** When. */
  readonly at: Date
  /** To whom. */
  readonly subject: string | null
  /** The account that it is a member of. */
  readonly account: string | null
  /** Who made the change, as `actingAs` has said. */
  readonly actor: string | null
  /** The id of the plan in force. */
  readonly plan: string | null
  /** Why a request was denied. */
  readonly reason: Reason | null
  /** The metric, scope or feature that it is about. */
  readonly metric: string | null
  /** The period of the metric's quota. */
  readonly period: Period | null
  /** Units used. */
  readonly used: number | null
  /** The limit, in units. */
  readonly limit: number | null
  /** Units left. */
  readonly remaining: number | null
  /** When the quota starts afresh. */
  readonly resetsAt: Date | null
  /** The id of the cheapest plan by rank that would have allowed the request. */
  readonly upgradeTo: string | null
  /** How long the decision took, in microseconds. */
  readonly durationUs: number | null
  /** What else there is to say, such as what a change has put in place, as JSON can say it; null for nothing. */
  readonly detail: unknown
}

/** @internal */
export interface WireEvent {
  sequence?: number
  name: EventName
  at: string
  subject?: string | null
  account?: string | null
  actor?: string | null
  plan?: string | null
  reason?: Reason | null
  metric?: string | null
  period?: Period | null
  used?: number | null
  limit?: number | null
  remaining?: number | null
  resets_at?: string | null
  upgrade_to?: string | null
  duration_us?: number | null
  detail?: unknown
}

/** @internal */
export function readEvent (wire: WireEvent): QuotaEvent {
  return Object.freeze({
    sequence: wire.sequence ?? 0,
    name: wire.name,
    at: date(wire.at) as Date,
    subject: wire.subject ?? null,
    account: wire.account ?? null,
    actor: wire.actor ?? null,
    plan: wire.plan ?? null,
    reason: wire.reason ?? null,
    metric: wire.metric ?? null,
    period: wire.period ?? null,
    used: wire.used ?? null,
    limit: wire.limit ?? null,
    remaining: wire.remaining ?? null,
    resetsAt: date(wire.resets_at),
    upgradeTo: wire.upgrade_to ?? null,
    durationUs: wire.duration_us ?? null,
    detail: wire.detail ?? null,
  })
}
