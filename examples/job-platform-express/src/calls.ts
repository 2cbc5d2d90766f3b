// Calls: what every request of a user asks for, before the endpoint asks for its own.

import type { ExpressQuotas, ExpressRequest, Handler, Rule } from 'quotum/express'
import { tokenOf } from 'quotum/http'

import type { PlanNames } from './plans.js'
import { KEY_PREFIX } from './users.js'

/** A user, at the pace of its plan. API keys are for plans that have them. */
const CALL: Rule<ExpressRequest, PlanNames> = {
  rate: 'api',
  features: { api_access: ({ headers }) => tokenOf(headers)?.startsWith(KEY_PREFIX) ?? false },
}

/** Lets users in. */
export function called (quotas: ExpressQuotas<PlanNames>): Handler {
  return quotas.admit(CALL)
}

/** Lets users in, and counts it among the calls of the day. */
export function counted (quotas: ExpressQuotas<PlanNames>): Handler {
  return quotas.admit({ ...CALL, costs: { api_calls: 1 } })
}
