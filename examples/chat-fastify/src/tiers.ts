// Tiers: the plans, as the price list shows them in English and French.

import type { FastifyInstance } from 'fastify'
import type { Plan, Plans } from 'quotum'

function tier ({ id, name, names, rank, visible, prices, features, quotas }: Plan): object {
  return {
    id,
    names: { en: name, fr: names['fr'] ?? name },
    display_order: rank,
    is_visible: visible,
    prices,
    features,
    limits: quotas,
  }
}

export function tiers (app: FastifyInstance, { plans }: Plans): void {
  /** The tiers that everybody may see, in their order. */
  app.get('/tiers', async () => plans.filter(plan => plan.visible).map(tier))

  /** One tier; also one that is only shown to whom it is offered. */
  app.get<{ Params: { id: string } }>('/tiers/:id', async (request, reply) => {
    const found = plans.find(plan => plan.id === request.params.id)
    return found === undefined ? await reply.code(404).send({ detail: 'no such tier' }) : tier(found)
  })
}
