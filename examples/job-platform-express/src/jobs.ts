// Jobs: made, run and removed. What they cost is charged, committed and given back here.

import { randomUUID } from 'node:crypto'

import { Router, type Request } from 'express'
import { quotaOf, type Costs } from 'quotum'
import { admissionOf } from 'quotum/express'

import { called, counted } from './calls.js'
import { callerOf, payerOf, type Job, type Platform } from './platform.js'
import type { PlanNames } from './plans.js'
import { Refusal, wholeOf } from './refusals.js'

/** The model that every plan may use. Others need the feature. */
const STANDARD_MODEL = 'standard'

/** The longest that a job may run. */
const RUN_MINUTES_MAX = 60

const mbOf = (request: Request): number => wholeOf(request.body, 'storage_mb', 0, 1_000_000, 0)
const isCustom = (request: Request): boolean => (request.body?.model ?? STANDARD_MODEL) !== STANDARD_MODEL

/** A job, and the room that it takes. */
function costsOf (request: Request): Costs<PlanNames> {
  const mb = mbOf(request)
  return mb === 0 ? { jobs: 1 } : { jobs: 1, storage_mb: mb }
}

export function jobs (platform: Platform): Router {
  const { quota, quotas, sales, jobs, runs } = platform
  const router = Router()

  // One decision on all that a job needs: all of it is charged, or nothing.
  const job = sales.admit({ rate: 'jobs', features: { custom_models: isCustom }, costs: costsOf })
  router.post('/', counted(quotas), job, async (request, response) => {
    const owner = callerOf(request)
    const id = randomUUID()
    const { quotas: charged } = admissionOf(request).decision
    const payer = await payerOf(platform, owner)
    const month = charged.find(({ metric, period }) => metric === 'jobs' && period === 'billing_month')
    await jobs.add(id, { owner, payer, mb: mbOf(request), chargedUntil: month?.resetsAt?.getTime() ?? null })
    response.status(201).json({ id, jobs: quotaOf(charged, 'jobs') })
  })

  // As many minutes as a job may take are set aside, until it is known how many it took.
  const run = sales.reserve({ compute_minutes: RUN_MINUTES_MAX }, { ttlMs: (RUN_MINUTES_MAX + 5) * 60_000 })
  router.post('/:id/run', called(quotas), run, async (request, response) => {
    // How long the work turns out to take: the example does none.
    const minutes = wholeOf(request.body, 'minutes', 1, RUN_MINUTES_MAX)
    const id = await own(request)
    if (!await runs.add(id, true)) throw new Refusal(409, 'the job has been run already')
    try {
      const settlement = await admissionOf(request).reservation?.commit({ compute_minutes: minutes })
      response.json({ id, minutes: settlement?.consumed['compute_minutes'] })
    } catch (error) {
      await runs.take(id)
      throw error
    }
  })

  router.delete('/:id', called(quotas), async (request, response) => {
    const id = await own(request)
    const removed = await jobs.take(id)
    if (removed === undefined) throw unknown()
    const { payer, mb } = removed
    if (await neverRan(id) && chargedNow(removed)) await quota.refund(payer, { jobs: 1 })
    if (mb > 0) await quota.giveBack(payer, { storage_mb: mb })
    response.status(204).end()
  })
  return router

  async function own (request: Request): Promise<string> {
    const id = String(request.params['id'])
    if ((await jobs.find(id))?.owner !== callerOf(request)) throw unknown()
    return id
  }

  /** Nobody has run it, and nobody will. */
  async function neverRan (id: string): Promise<boolean> {
    return await runs.add(id, true)
  }

  /** A refund goes to the month of now, which a job of an earlier one was never charged to. */
  function chargedNow ({ chargedUntil }: Job): boolean {
    return chargedUntil !== null && quota.now.getTime() < chargedUntil
  }
}

function unknown (): Refusal {
  return new Refusal(404, 'you have no such job')
}
