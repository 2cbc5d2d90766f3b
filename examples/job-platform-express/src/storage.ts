// Storage: files that fill a level, which goes down again when they are removed, and by nothing else.

import { Router, type Request } from 'express'
import { quotaOf } from 'quotum'
import { admissionOf } from 'quotum/express'

import { called, counted } from './calls.js'
import { callerOf, payerOf, type Charged, type Platform } from './platform.js'
import { Refusal, wholeOf } from './refusals.js'

const mbOf = (request: Request): number => wholeOf(request.body, 'mb', 1, 1_000_000)

/** The file that a request names, of all the files of all users. */
function fileOf (request: Request): string {
  return JSON.stringify([callerOf(request), request.params['name']])
}

export function storage (platform: Platform): Router {
  const { quota, quotas, sales, files } = platform
  const router = Router()

  router.put('/:name', counted(quotas), sales.consume({ storage_mb: mbOf }), async (request, response) => {
    const [owner, file] = [callerOf(request), fileOf(request)]
    const row = { owner, payer: await payerOf(platform, owner), mb: mbOf(request) }
    // The new file was charged whole, so the one that it takes the place of is given back whole.
    for (let stored = false; !stored; stored = await files.add(file, row)) await remove(file)
    response.status(201).json({ storage: quotaOf(admissionOf(request).decision.quotas, 'storage_mb') })
  })

  // Who has used up the day's calls can still make room.
  router.delete('/:name', called(quotas), async (request, response) => {
    if (await remove(fileOf(request)) === undefined) throw new Refusal(404, 'you have no such file')
    response.status(204).end()
  })
  return router

  async function remove (file: string): Promise<Charged | undefined> {
    const removed = await files.take(file)
    if (removed !== undefined) await quota.giveBack(removed.payer, { storage_mb: removed.mb })
    return removed
  }
}
