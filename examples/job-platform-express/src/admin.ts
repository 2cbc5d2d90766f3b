// Administration: every change is made in the name of who makes it, and is in the audit log.

import { Router, type ErrorRequestHandler, type Request, type RequestHandler } from 'express'
import { QuotumError, type Quota, type Status } from 'quotum'
import { admissionOf } from 'quotum/express'

import { organisations } from './organisations.js'
import { callerOf, type Platform } from './platform.js'
import type { PlanNames } from './plans.js'
import { Refusal, textOf } from './refusals.js'
import { change, sell, subscriptionOf } from './subscriptions.js'

/** How many users or events a page has. */
const PAGE = 100

const isAdmin: RequestHandler = (request, _response, next) => {
  const { identity } = admissionOf(request).decision
  if (identity?.attributes['role'] !== 'admin') throw new Refusal(403, 'this is for administrators')
  next()
}

/** Here it is the administrator who has misspelt something, and who may know what there is. */
const answerMistakes: ErrorRequestHandler = (error, _request, _response, next) => {
  const isMistake = error instanceof QuotumError && (error.code === 'unknown_name' || error.code === 'invalid_argument')
  next(isMistake ? new Refusal(422, error.message) : error)
}

/** A parameter of the query, where it is there. */
function asked<K extends string, T extends string> (request: Request, name: K): { [P in K]?: T } {
  const value = request.query[name]
  return typeof value === 'string' ? { [name]: value as T } as { [P in K]?: T } : {}
}

export function admin (platform: Platform): Router {
  const { quota, quotas, users } = platform
  const router = Router()
  const acting = (request: Request): Quota<PlanNames> => quota.actingAs(callerOf(request))
  const user = (request: Request): string => String(request.params['user'])
  // A rule that asks for nothing asks who it is.
  router.use(quotas.admit({}), isAdmin)

  router.get('/users', async (request, response) => {
    response.json(await quota.subscribers({
      ...asked(request, 'containing'),
      ...asked<'plan', PlanNames['plan']>(request, 'plan'),
      ...asked<'status', Status>(request, 'status'),
      ...asked(request, 'account'),
      ...asked(request, 'after'),
      limit: PAGE,
    }))
  })

  router.get('/users/:user', async (request, response) => {
    const subscription = await subscriptionOf(quota, user(request))
    response.json({ user: user(request), subscription, usage: await quota.usage(user(request)) })
  })

  router.post('/users/:user/plan', async (request, response) => {
    await subscriptionOf(quota, user(request))
    response.json(await sell(acting(request), platform, user(request), request.body))
  })

  router.post('/users/:user/suspend', async (request, response) => {
    response.json(await change(acting(request), user(request), before => {
      // It is the organisation's subscription that is in force.
      if (before.account !== undefined) throw new Refusal(409, `it is a member of ${before.account}: take it out first`)
      return { ...before, status: 'paused', since: quota.now }
    }))
  })

  router.post('/users/:user/resume', async (request, response) => {
    response.json(await change(acting(request), user(request), before => ({ ...before, status: 'active', since: quota.now })))
  })

  // What was used of a metric in the present periods is forgotten.
  router.post('/users/:user/reset', async (request, response) => {
    const metric = textOf(request.body, 'metric') as PlanNames['metric']
    response.json(await acting(request).resetUsage(user(request), metric))
  })

  // The keys are those that the limiter counts by: the user itself, and the address before anybody is known.
  router.post('/users/:user/clear-rate-limits', async (request, response) => {
    await acting(request).clearRates(user(request))
    response.status(204).end()
  })

  router.post('/addresses/:ip/clear-rate-limits', async (request, response) => {
    await acting(request).clearRates({ ip: request.params.ip })
    response.status(204).end()
  })

  // A soft delete: nobody comes in any more, and what was used stays on record.
  router.delete('/users/:user', async (request, response) => {
    await subscriptionOf(quota, user(request))
    await users.remove(user(request))
    await acting(request).forgetSubject(user(request))
    await acting(request).cancel(user(request))
    response.status(204).end()
  })

  router.get('/stats', async (_request, response) => {
    response.json({ users: await quota.census(), tokens: quota.tokenStats })
  })

  // The last changes, newest first; or those after one, in their order.
  router.get('/audit', async (request, response) => {
    const { user: subject, after } = { ...asked(request, 'user'), ...asked(request, 'after') }
    response.json(await quota.events({
      changesOnly: true,
      newestFirst: after === undefined,
      limit: PAGE,
      ...(subject === undefined ? {} : { subject }),
      ...(after === undefined ? {} : { after: Number(after) }),
    }))
  })

  router.use('/organisations', organisations(platform, acting))
  router.use(answerMistakes)
  return router
}
