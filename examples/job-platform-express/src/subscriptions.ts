// Subscriptions: how an administrator changes them.

import type { Quota, Subscription, SubscriptionFields } from 'quotum'

import type { Platform } from './platform.js'
import type { PlanNames } from './plans.js'
import { Refusal, textOf, wholeOf } from './refusals.js'

const DAY_MS = 86_400_000
const DAYS_MAX = 3_660

type Fields = SubscriptionFields<PlanNames>

/** What a subscription says besides its plan, to be said again. */
function fieldsOf ({ plan: _, ...fields }: Subscription): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))
}

/** The subscription of somebody who has come. */
export async function subscriptionOf (quota: Quota<PlanNames>, subject: string): Promise<Subscription> {
  const found = await quota.subscription(subject)
  if (found === null) throw new Refusal(404, 'there is nobody of this name')
  return found
}

/** Says something of a subscription anew. Its plan stays. */
export async function change (
  quota: Quota<PlanNames>, subject: string, changed: (before: Fields) => Fields,
): Promise<Subscription> {
  const before = await subscriptionOf(quota, subject)
  await quota.subscribe(subject, before.plan as PlanNames['plan'], changed(fieldsOf(before)))
  return await subscriptionOf(quota, subject)
}

/**
 * Puts a subject on the plan that a body names, at once and for its days. Billing months go on as they began, and what was
 * used in this one stays used.
 */
export async function sell (
  quota: Quota<PlanNames>, { defaultPlan }: Platform, subject: string, body: Record<string, unknown> | undefined,
): Promise<Subscription> {
  const plan = textOf(body, 'plan')
  const { now } = quota
  const before = await quota.subscription(subject)
  const { expiresAt: _, trialEndsAt: __, ...kept }: Fields = before === null ? {} : fieldsOf(before)
  // Whoever sells says for how long: nobody who has paid for a year gets thirty days.
  const paid = plan === defaultPlan ? {} : { expiresAt: new Date(now.getTime() + wholeOf(body, 'days', 1, DAYS_MAX) * DAY_MS) }
  await quota.subscribe(subject, plan as PlanNames['plan'], { anchor: now, ...kept, status: 'active', since: now, ...paid })
  return await subscriptionOf(quota, subject)
}
