// Every module, with nothing of its declarations left unchecked.
import type { Context } from 'hono'
import { Quota, type PlansSource } from 'quotum'
import { expressQuotas } from 'quotum/express'
import { QuotumStore as ForExpress } from 'quotum/express-rate-limit'
import { fastifyQuotas } from 'quotum/fastify'
import { QuotumStore as ForFastify } from 'quotum/fastify-rate-limit'
import { fetchQuotas } from 'quotum/fetch'
import { honoQuotas } from 'quotum/hono'
import { clientAddress, Mapping, METRICS_TYPE, tokenOf } from 'quotum/http'
import { QuotumGuard, QuotumModule } from 'quotum/nest'
import { checkStore } from 'quotum/testing'
import plans from './plans.json' with { type: 'json' }

const quota: Quota = await Quota.open('memory:', { plans: 'plans.toml' })
const found = fetchQuotas(quota).consume({ searches: 1 })(async request => new Response(request.url))
const answered: Promise<Response> = found(new Request('http://localhost'))
const passes = honoQuotas(quota).admit({ rateKey: (_context: Context) => 'key', rate: 'api' })
void [expressQuotas, ForExpress, fastifyQuotas, ForFastify, clientAddress, Mapping, METRICS_TYPE, tokenOf, QuotumGuard, QuotumModule, checkStore, answered, passes]

// A mistake in an option does not make the names unknown.
// @ts-expect-error there is no such plan
await Quota.open('memory:', { plans, subscriptions: () => 'gold' })
// Plans of which nothing is known but that they are some.
const some = await Quota.open('memory:', { plans: JSON.parse('{}') as PlansSource })
await some.consume('user-42', { whatever: 1 })
await some.require('user-42', 'whatever')
// Plans without a quota charge nothing.
const free = await Quota.open('memory:', { plans: { default_plan: 'a', plans: { a: { features: { excel: true } } } } })
// @ts-expect-error there is no metric
await free.consume('user-42', { searches: 1 })
