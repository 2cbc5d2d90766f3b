// What the compiler knows of names, from an ES module.
import { Quota, quotaOf, QuotumError, throwIfDenied } from 'quotum'
import type { Decision, Names, NamesOf, Reservation } from 'quotum'
import plans from './plans.json' with { type: 'json' }

// Of an imported plans file.
const known = await Quota.open('memory:', { plans })
await known.consume('user-42', { searches: 1, tokens: 2 })
// @ts-expect-error there is no such metric
await known.consume('user-42', { serches: 1 })
// @ts-expect-error costs are numbers
await known.consume('user-42', { searches: '1' })
await known.admit({ subject: 'user-42', rate: 'api', features: ['excel', ['days', 7]], costs: { searches: 1 } })
await known.admit({ token: 'key', rate: 'login', rateKey: { ip: '203.0.113.7' } })
// @ts-expect-error there is no such scope
await known.rate('apis', 'key')
// @ts-expect-error there is no such feature
await known.require('user-42', 'excell')
// @ts-expect-error there is no such plan
await known.subscribe('user-42', 'gold')
await known.subscribe('user-42', 'pro', { expiresAt: new Date(), quotas: { searches: '5/day' } })
// @ts-expect-error it is no request
await known.admit({ subjects: 'user-42' })

// Of plans that are written in TypeScript.
const written = await Quota.open('memory:', { plans: { default_plan: 'a', plans: { a: { quotas: { jobs: '3/day' } } } } })
await written.subject('user-42').consume({ jobs: 1 })
// @ts-expect-error there is no such metric
await written.subject('user-42').consume({ searches: 1 })
// @ts-expect-error no plan has a rate
await written.rate('api', 'key')

// Of an interface, where the plans are in a file that the compiler does not read.
interface MyNames { metric: 'tokens', scope: 'api', feature: 'excel', plan: 'free' | 'pro' }
const mine = await Quota.open<MyNames>('sqlite:quota.db', { plans: 'plans.toml', subscriptions: () => 'pro' })
// @ts-expect-error there is no such plan
await Quota.open<MyNames>('memory:', { subscriptions: () => 'gold' })
await mine.grant('user-42', { tokens: 5 })
// @ts-expect-error there is no such metric
await mine.grant('user-42', { searches: 5 })

// Of none: every text is a name.
const any: Quota = await Quota.open('memory:', { plans: 'plans.toml' })
await any.consume('user-42', { whatever: 1 })
const names: NamesOf<typeof plans> = { metric: 'tokens', scope: 'login', feature: 'days', plan: 'pro' }
const generic = async <N extends Names>(quota: Quota<N>, metric: N['metric']): Promise<void> => { await quota.resetUsage('user-42', metric) }
await generic(known, 'searches')

// Answers.
const decision: Decision = await known.check('user-42', { searches: 1 })
// @ts-expect-error it is frozen
decision.allowed = true
if (decision.denied !== null) {
  const reason: 'quota_exhausted' | 'never_fits' = decision.denied.reason === 'never_fits' ? 'never_fits' : 'quota_exhausted'
  const until: Date | null = decision.denied.resetsAt
  void [reason, until]
}
const left: number | null | undefined = quotaOf(decision.quotas, 'searches')?.remaining
const maybe: Decision | undefined = known.tryConsume('user-42', { searches: 1 })
// @ts-expect-error it may be undefined
maybe.allowed

try {
  throwIfDenied(decision)
} catch (error) {
  if (error instanceof QuotumError && error.code === 'store_failed') void (error.retry === 'safe')
  // @ts-expect-error there is no such code
  if (error instanceof QuotumError) void (error.code === 'broken')
}

async function answer (): Promise<void> {
  await using reservation = await known.reserve('user-42', { tokens: 500 }, { ttlMs: 60_000, signal: AbortSignal.timeout(1_000) })
  const typed: Reservation<NamesOf<typeof plans>> = reservation
  if (typed.allowed) await reservation.commit({ tokens: 321 })
  // @ts-expect-error there is no such metric
  await reservation.commit({ token: 321 })
  // @ts-expect-error for how long?
  await known.reserve('user-42', { tokens: 500 }, {})
}
await answer()
void [names, left]
