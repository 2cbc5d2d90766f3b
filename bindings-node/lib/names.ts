// Names: what plans name, for the compiler, and plans files.

/** The value of a feature: a switch, a ceiling or a word. The word `'unlimited'` is a ceiling that nothing exceeds. */
export type FeatureValue = boolean | number | string

/**
 * The names that plans have. `Quota<MyNames>` has the compiler refuse others; {@link NamesOf} takes them from plans.
 *
 * ```ts
 * interface MyNames { metric: 'searches' | 'tokens', scope: 'api', feature: 'excel', plan: 'free' | 'pro' }
 * const quota = await Quota.open<MyNames>('sqlite:quota.db', { plans: 'plans.toml' })
 * ```
 */
export interface Names {
  /** What quotas count, such as `'searches'`. */
  metric: string
  /** What rates limit, such as `'api'`. */
  scope: string
  /** What plans can do, such as `'excel'`. */
  feature: string
  /** The ids of plans. */
  plan: string
}

/** Units by metric, such as `{ searches: 1 }`: whole numbers from 0 to `Number.MAX_SAFE_INTEGER`. */
export type Costs<N extends Names = Names> = { readonly [M in N['metric']]?: number }

/** One limit or several, as plans files write them: `'50/month'`, `['5/day', '100/month']`, `'unlimited'`. */
export type Limits = string | readonly string[]

/** A rate, as plans files write it: `'60/minute'`, `['5/minute', '20/hour']`, or a table. */
export type RateSource = string | readonly string[] | {
  readonly limits: string | readonly string[]
  readonly algorithm?: 'gcra' | 'sliding_window' | 'fixed_window'
  readonly shared?: boolean
}

/** One plan of a plans file. See the repository's README for what each part says. */
export interface PlanSource {
  readonly name?: string
  readonly names?: Readonly<Record<string, string>>
  readonly description?: string
  readonly rank?: number
  readonly visible?: boolean
  readonly version?: number
  readonly trial_days?: number
  readonly grace_days?: number
  readonly prices?: Readonly<Record<string, string>>
  readonly stripe_prices?: Readonly<Record<string, string>>
  readonly features?: Readonly<Record<string, FeatureValue>>
  readonly quotas?: Readonly<Record<string, Limits>>
  readonly member_quotas?: Readonly<Record<string, Limits>>
  readonly rates?: Readonly<Record<string, RateSource>>
  readonly rate_multiplier?: number
  readonly [setting: string]: unknown
}

/** A plans file, as an object: what `JSON.parse` makes of one in JSON, or the same written in TypeScript. */
export interface PlansSource {
  readonly default_plan: string
  readonly plans: Readonly<Record<string, PlanSource>>
  readonly rates?: Readonly<Record<string, RateSource>>
  readonly zone?: string
  readonly [setting: string]: unknown
}

/** The keys of one table of any of some plans. */
type KeysOf<P, Table extends string> =
  P extends unknown ? Table extends keyof P ? Extract<keyof P[Table], string> : never : never

/** All plans of plans. */
type PlanOf<P extends PlansSource> = P['plans'][keyof P['plans']]

/**
 * The names that plans have, from the type of the plans: of an object in TypeScript, or of an imported `plans.json`.
 *
 * ```ts
 * import plans from './plans.json' with { type: 'json' }
 *
 * const quota: Quota<NamesOf<typeof plans>> = await Quota.open('sqlite:quota.db', { plans })
 * ```
 */
export interface NamesOf<P extends PlansSource> {
  metric: KeysOf<PlanOf<P>, 'quotas'> | KeysOf<PlanOf<P>, 'member_quotas'>
  scope: KeysOf<PlanOf<P>, 'rates'> | KeysOf<P, 'rates'>
  feature: KeysOf<PlanOf<P>, 'features'>
  plan: Extract<keyof P['plans'], string>
}
