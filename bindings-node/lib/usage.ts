// Usage: what an account page shows.

import { date, readQuotas, type QuotaState, type Reason, type WireQuota } from './decision.js'
import type { FeatureValue } from './names.js'
import type { Status } from './subscription.js'

/** What an account page shows: every quota of a subject, its plan and its state. */
export interface Usage {
  /** Whose usage. */
  readonly subject: string
  /** The id of the plan in force, or of the plan that has lapsed. */
  readonly plan: string
  /** The plan's name for people. */
  readonly planName: string
  /** Which edition of the plan. */
  readonly planVersion: number
  /** The subscription's state; null for a subject without one. */
  readonly status: Status | null
  /** The account that the subject is a member of, whose plan it has. */
  readonly account: string | null
  /** Why nothing is granted now, if nothing is. */
  readonly refused: Reason | null
  /** When the trial ends. */
  readonly trialEndsAt: Date | null
  /** When what was paid for ends. */
  readonly expiresAt: Date | null
  /** What the plan can do, by name, with what the subject has of its own in place of it. */
  readonly features: Readonly<Record<string, FeatureValue>>
  /** Every quota of the plan, by metric. */
  readonly quotas: readonly QuotaState[]
}

/** @internal */
export interface WireUsage {
  subject: string
  plan: string
  plan_name: string
  plan_version: number
  status: Status | null
  account: string | null
  refused: Reason | null
  trial_ends_at: string | null
  expires_at: string | null
  features: Record<string, FeatureValue>
  quotas: WireQuota[]
}

/** @internal */
export function readUsage (wire: WireUsage): Usage {
  return Object.freeze({
    subject: wire.subject,
    plan: wire.plan,
    planName: wire.plan_name,
    planVersion: wire.plan_version,
    status: wire.status,
    account: wire.account,
    refused: wire.refused,
    trialEndsAt: date(wire.trial_ends_at),
    expiresAt: date(wire.expires_at),
    features: Object.freeze(wire.features),
    quotas: readQuotas(wire.quotas),
  })
}
