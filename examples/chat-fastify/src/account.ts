// Accounts: what a user has left, what was asked and denied day by day, and the way to a dearer tier.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Plans, Quota, QuotaState, Usage } from 'quotum'
import { admissionOf } from 'quotum/fastify'

import type { ChatNames } from './names.js'

const DAY_MS = 24 * 3_600_000

/** The quotas of which 80 % are used or set aside, such as "messages/day". */
export function warnings (states: readonly QuotaState[]): string[] {
  return states
    .filter(({ limit, remaining }) => limit !== null && remaining !== null && remaining * 5 <= limit)
    .map(({ metric, period }) => `${metric}/${period}`)
}

/** What a user has, has used and has left. */
function quotaInfo (usage: Usage, plans: Plans): object {
  const quotas: Record<string, Record<string, object>> = {}
  for (const { metric, period, limit, used, remaining, resetsAt } of usage.quotas) {
    (quotas[metric] ??= {})[period ?? 'unlimited'] = { limit, used, remaining, resets_at: resetsAt }
  }
  const isExceeded = usage.quotas.some(({ remaining }) => remaining === 0)
  return {
    tier: usage.plan,
    quotas,
    can_send_message: !isExceeded && usage.refused === null,
    is_quota_exceeded: isExceeded,
    needs_upgrade: isExceeded && dearer(usage, plans).length > 0,
    warning: warnings(usage.quotas),
  }
}

/** The tiers above a user's that everybody may see. */
function dearer (usage: Usage, plans: Plans): string[] {
  const { rank } = plans.get(usage.plan)
  return plans.plans.filter(plan => plan.visible && plan.rank > rank).map(plan => plan.id)
}

/** Who asks: a rule that asks for nothing lets in whoever is known. */
const KNOWN = { config: { quotum: {} } }

function caller (request: FastifyRequest): string {
  return admissionOf(request).decision.subject as string
}

export function accounts (app: FastifyInstance, quota: Quota<ChatNames>, plans: Plans): void {
  /** What is left: for the banner, and for the button that sends. */
  app.get('/quota', KNOWN, async request => quotaInfo(await quota.usage(caller(request)), plans))

  const upgrade = { body: { type: 'object', required: ['tier'], properties: { tier: { type: 'string' } } } }

  /** Puts the caller on a dearer tier, at once. That it is paid for is to be seen to before. */
  app.post<{ Body: { tier: ChatNames['plan'] } }>('/upgrade', { ...KNOWN, schema: upgrade }, async (request, reply) => {
    const [user, { tier }] = [caller(request), request.body]
    if (!dearer(await quota.usage(user), plans).includes(tier)) {
      return await reply.code(409).send({ detail: 'there is no such tier above yours' })
    }
    await quota.actingAs(user).subscribe(user, tier)
    return quotaInfo(await quota.usage(user), plans)
  })

  const days = { type: 'integer', minimum: 1, maximum: 90, default: 30 }
  const range = { querystring: { type: 'object', properties: { days } } }

  /** How often what has happened on each day, the latest first: what the latest thousand events tell of it. */
  app.get<{ Querystring: { days: number } }>('/usage/stats', { ...KNOWN, schema: range }, async request => {
    const since = quota.now.getTime() - request.query.days * DAY_MS
    const byDay: Record<string, Record<string, number>> = {}
    for (const { at, name, metric } of await quota.events({ subject: caller(request), newestFirst: true, limit: 1_000 })) {
      // To find out who asks is a success too, but no message.
      if (at.getTime() < since || (metric === null && name === 'quota_check_success')) continue
      const events = byDay[at.toISOString().slice(0, 10)] ??= {}
      events[name] = (events[name] ?? 0) + 1
    }
    return { days: Object.entries(byDay).map(([date, events]) => ({ date, events })) }
  })
}
