// Accounts: registering, logging in, and what a user sees of its plan.

import { Router } from 'express'
import { byAddress } from 'quotum/express'

import { called } from './calls.js'
import { callerOf, type Platform } from './platform.js'
import type { PlanNames } from './plans.js'
import { Refusal, textOf } from './refusals.js'

const SESSION_MS = 12 * 3_600_000

/** An address in two spellings is one user. */
function emailOf (body: Record<string, unknown> | undefined): string {
  const email = textOf(body, 'email').trim().toLowerCase()
  if (!/^[^\s@]+@[^\s@]+$/.test(email)) throw new Refusal(422, '`email` is no e-mail address')
  return email
}

export function accounts (platform: Platform): Router {
  const { quota, quotas, users } = platform
  const router = Router()

  // Nobody is known yet: these are limited by address.
  router.post('/register', quotas.rate('register', byAddress), async (request, response) => {
    const [user, password] = [emailOf(request.body), textOf(request.body, 'password')]
    await subscribe(platform, user)
    const key = await users.register(user, password)
    if (key === undefined) throw new Refusal(409, 'this address is registered already')
    response.status(201).json({ user, api_key: key, token: await logIn(user, password) })
  })

  router.post('/login', quotas.rate('login', byAddress), async (request, response) => {
    const user = emailOf(request.body)
    const token = await logIn(user, textOf(request.body, 'password'))
    if (token === undefined) throw new Refusal(401, 'wrong address or password')
    response.json({ user, token })
  })

  // Who has used up the day's calls can still see so.
  router.get('/usage', called(quotas), quotas.usage())
  router.get('/subscription/me', called(quotas), async (request, response) => {
    const user = callerOf(request)
    const [{ plan, status, account }, subscription] = await Promise.all([quota.usage(user), quota.subscription(user)])
    response.json({ user, plan, status, account, subscription })
  })

  router.get('/plans', quotas.plans())
  return router

  async function logIn (user: string, password: string): Promise<string | undefined> {
    return await users.logIn(user, password, new Date(quota.now.getTime() + SESSION_MS))
  }
}

/** Everybody would have the default plan anyhow: so billing months begin when the user came, and lists have it. */
async function subscribe ({ quota, defaultPlan }: Platform, user: string): Promise<void> {
  if (await quota.subscription(user) !== null) return
  await quota.actingAs('registration').subscribe(user, defaultPlan as PlanNames['plan'], { anchor: quota.now })
}
