// Organisations: their members share a plan and what it grants, and each takes a seat of it.

import { Router, type Request } from 'express'
import { throwIfDenied, type Quota } from 'quotum'

import type { Platform } from './platform.js'
import type { PlanNames } from './plans.js'
import { Refusal } from './refusals.js'
import { change, sell, subscriptionOf } from './subscriptions.js'

/** No user's address looks like it. */
function organisationOf (request: Request): string {
  const name = String(request.params['organisation'])
  if (!/^[a-z0-9-]{1,64}$/.test(name)) throw new Refusal(422, 'an organisation has small letters, digits and hyphens')
  return `org:${name}`
}

export function organisations (platform: Platform, acting: (request: Request) => Quota<PlanNames>): Router {
  const { quota, seats } = platform
  const router = Router()

  router.put('/:organisation', async (request, response) => {
    response.json(await sell(acting(request), platform, organisationOf(request), request.body))
  })

  router.put('/:organisation/members/:user', async (request, response) => {
    const [account, user] = [organisationOf(request), request.params.user]
    await subscriptionOf(quota, account)
    const { account: before } = await subscriptionOf(quota, user)
    if (before !== null && before !== account) throw new Refusal(409, `it is a member of ${before}`)
    // Who asks twice takes one seat.
    const seat = JSON.stringify([account, user])
    if (await seats.add(seat, true)) {
      try {
        throwIfDenied(await acting(request).consume(account, { seats: 1 }))
      } catch (error) {
        await seats.take(seat)
        throw error
      }
    }
    response.json(await change(acting(request), user, before => ({ ...before, account })))
  })

  router.delete('/:organisation/members/:user', async (request, response) => {
    const [account, user] = [organisationOf(request), request.params.user]
    if (await seats.take(JSON.stringify([account, user])) === undefined) throw new Refusal(404, 'it is no member')
    await change(acting(request), user, ({ account: _, ...before }) => before)
    await acting(request).giveBack(account, { seats: 1 })
    response.status(204).end()
  })
  return router
}
