// The platform: what all endpoints share.

import { Plans, Quota, type ManualClock } from 'quotum'
import { admissionOf, expressQuotas, type ExpressQuotas } from 'quotum/express'

import type { PlanNames } from './plans.js'
import { FOR_SALE, offer } from './refusals.js'
import { Rows } from './rows.js'
import type { Settings } from './settings.js'
import { Users } from './users.js'

/** What was charged for a job or a file, and to whom: a member of an organisation may have left it since. */
export interface Charged {
  readonly owner: string
  readonly payer: string
  readonly mb: number
}

export interface Job extends Charged {
  /** When the billing month ends that it was charged to, in milliseconds; null where it was not charged. */
  readonly chargedUntil: number | null
}

export interface Platform {
  readonly quota: Quota<PlanNames>
  /** The plan of everybody who comes. */
  readonly defaultPlan: string
  /** What a request asks for before any endpoint: what is exhausted is 429. */
  readonly quotas: ExpressQuotas<PlanNames>
  /** What an endpoint asks for, where a dearer plan has more: what is exhausted is 402, with an offer. */
  readonly sales: ExpressQuotas<PlanNames>
  readonly users: Users
  readonly jobs: Rows<Job>
  /** Jobs that somebody runs, or has run. */
  readonly runs: Rows<true>
  readonly files: Rows<Charged>
  /** Who has a seat, by organisation and user. */
  readonly seats: Rows<true>
}

/** Opens a platform; with a clock of its own, that of a test. */
export async function openPlatform (settings: Settings, clock?: ManualClock): Promise<Platform> {
  const { data, trustedHops, storeTimeoutMs } = settings
  const users = new Users(data, settings.adminToken)
  const plans = await Plans.read(settings.plans)
  const quota = await Quota.open<PlanNames>(settings.quotumUrl, {
    plans,
    storeTimeoutMs,
    verifier: async token => await users.identityOf(token),
    ...(clock === undefined ? {} : { clock }),
  })
  return {
    quota,
    defaultPlan: plans.defaultPlan.id,
    quotas: expressQuotas(quota, { trustedHops }),
    sales: expressQuotas(quota, { trustedHops, statuses: FOR_SALE, handler: offer }),
    users,
    jobs: new Rows(data, 'jobs'),
    runs: new Rows(data, 'runs'),
    files: new Rows(data, 'files'),
    seats: new Rows(data, 'seats'),
  }
}

/** Who was let in. */
export function callerOf (request: object): string {
  const { subject } = admissionOf(request).decision
  if (subject === null) throw new Error('an endpoint for users stands behind no rule that asks who they are')
  return subject
}

/** Who pays for what a user does: its organisation, or itself. */
export async function payerOf ({ quota }: Platform, user: string): Promise<string> {
  return (await quota.subscription(user))?.account ?? user
}
