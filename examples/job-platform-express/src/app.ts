// The app: which path is whose.

import express, { type Express } from 'express'
import { METRICS_TYPE } from 'quotum/http'

import { accounts } from './accounts.js'
import { admin } from './admin.js'
import { jobs } from './jobs.js'
import type { Platform } from './platform.js'
import { answerErrors } from './refusals.js'
import { storage } from './storage.js'

export function createApp (platform: Platform): Express {
  const { quota, sales } = platform
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json())

  app.use('/v1', accounts(platform))
  app.use('/v1/jobs', jobs(platform))
  app.use('/v1/storage', storage(platform))
  app.use('/v1/admin', admin(platform))
  // For Prometheus. It names no user.
  app.get('/metrics', (_request, response) => {
    response.setHeader('content-type', METRICS_TYPE)
    response.end(quota.metrics())
  })

  app.use(sales.errors())
  app.use(answerErrors)
  return app
}
