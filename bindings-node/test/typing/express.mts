// Express, as its users type it.
import express, { type Request, type Response } from 'express'
import { Quota } from 'quotum'
import { byAddress, expressQuotas, type Admission } from 'quotum/express'

const quota = Quota.open('memory:', {
  plans: { default_plan: 'a', rates: { login: '10/minute' }, plans: { a: { features: { days: 7 }, quotas: { jobs: '3/day' }, rates: { api: '60/minute' } } } },
})
const quotas = expressQuotas(quota, {
  subject: (request: Request) => request.ip,
  handler: (request: Request, response: Response, next, answer) => { response.json({ ...JSON.parse(answer.body) as object, upgrade_url: '/plans' }) },
})
const app = express()
app.post('/jobs', quotas.admit({ rate: 'api', costs: { jobs: request => request.body.jobs as number } }), (request, response) => {
  const admission: Admission | undefined = request.quotum
  response.json(admission?.decision.quotas)
})
app.post('/login', quotas.rate('login', byAddress), (_request, response) => { response.end() })
app.get('/history', quotas.require('days', (request: Request) => Number(request.query['days'])), (_request, response) => { response.end() })
app.use(quotas.errors())
// @ts-expect-error there is no such metric
quotas.consume({ job: 1 })
// @ts-expect-error there is no such scope
quotas.rate('apis')

// Read, changed and written again.
const opened = await quota
const kept = await opened.subscription('user-42')
if (kept !== null) await opened.subscribe('user-42', kept.plan, { ...kept, status: 'paused' })
