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

/**
 * Units by metric, such as `{ searches: 1 }`: whole numbers up to `Number.MAX_SAFE_INTEGER`. Only what a reservation has
 * really cost may be 0.
 */
export type Costs<N extends Names = Names> = [N['metric']] extends [never]
  ? { readonly [metric: string]: never }
  : { readonly [M in N['metric']]?: number }

/** One limit or several, as plans files write them: `'50/month'`, `['5/day', '100/month']`, `'unlimited'`. */
export type Limits = string | readonly string[]

/** A rate, as plans files write it: `'60/minute'`, `['5/minute', '20/hour']`, or a table. */
export type RateSource = string | readonly string[] | {
  /** One limit or several, decided together. */
  readonly limits: string | readonly string[]
  /** How it is counted; `'gcra'` by default. */
  readonly algorithm?: 'gcra' | 'sliding_window' | 'fixed_window' | (string & {})
  /** Whether processes that share a store share the rate. */
  readonly shared?: boolean
}

/** One plan of a plans file. See the repository's README for what each part says. */
export interface PlanSource {
  /** The name shown to people; the id by default. */
  readonly name?: string
  /** The name in other languages, by language tag. */
  readonly names?: Readonly<Record<string, string>>
  /** A sentence for the price list. */
  readonly description?: string
  /** Its place in lists and in upgrade suggestions, cheapest first. */
  readonly rank?: number
  /** Whether the public listing and upgrade suggestions show it; `true` by default. */
  readonly visible?: boolean
  /** Which edition of the plan this is; 1 by default. */
  readonly version?: number
  /** How many days a trial of it lasts; none by default. */
  readonly trial_days?: number
  /** How many days after its end a subscription still grants. */
  readonly grace_days?: number
  /** What it costs, by billing interval, such as `{ monthly: 'BRL 297.00' }`. */
  readonly prices?: Readonly<Record<string, string>>
  /** Its Stripe price ids, by billing interval. */
  readonly stripe_prices?: Readonly<Record<string, string>>
  /** What it can do. */
  readonly features?: Readonly<Record<string, FeatureValue>>
  /** How much it may use, by metric. */
  readonly quotas?: Readonly<Record<string, Limits>>
  /** How much each member of an account may use of what the account has. */
  readonly member_quotas?: Readonly<Record<string, Limits>>
  /** How fast it may ask, by scope. */
  readonly rates?: Readonly<Record<string, RateSource>>
  /** How many times over each of its rates holds; 1 by default. */
  readonly rate_multiplier?: number
  readonly [setting: string]: unknown
}

/** A plans file, as an object: what `JSON.parse` makes of one in JSON, or the same written in TypeScript. */
export interface PlansSource {
  /** The plan of a subject that has no subscription. */
  readonly default_plan: string
  /** All plans, by id. */
  readonly plans: Readonly<Record<string, PlanSource>>
  /** Rates of every plan that says nothing else, and of callers who are not known. */
  readonly rates?: Readonly<Record<string, RateSource>>
  /** The IANA zone of calendar periods; UTC by default. */
  readonly zone?: string
  readonly [setting: string]: unknown
}

/** The keys of one table of any of some plans. */
type KeysOf<P, Table extends string> =
  P extends unknown ? Table extends keyof P ? Extract<keyof NonNullable<P[Table]>, string> : never : never

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
  /** What any plan counts. */
  metric: KeysOf<PlanOf<P>, 'quotas'> | KeysOf<PlanOf<P>, 'member_quotas'>
  /** What any plan limits. */
  scope: KeysOf<PlanOf<P>, 'rates'> | KeysOf<P, 'rates'>
  /** What any plan can do. */
  feature: KeysOf<PlanOf<P>, 'features'>
  /** The ids of the plans. */
  plan: Extract<keyof P['plans'], string>
}
