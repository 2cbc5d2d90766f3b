// Plans: what there is to subscribe to.

import { refusedValue, text } from './argument.js'
import { date } from './decision.js'
import { QuotumError } from './errors.js'
import { addon, home } from './addon.js'
import { begun, outcome } from './tasks.js'
import type { FeatureValue, PlansSource } from './names.js'

/** One plan: what a subject on it may do, and how it is shown and sold. */
export interface Plan {
  /** The name by which subscriptions refer to it. */
  readonly id: string
  /** The name shown to people; the id where the file gives none. */
  readonly name: string
  /** The name in other languages, by language tag. */
  readonly names: Readonly<Record<string, string>>
  /** A sentence for the price list. */
  readonly description: string | null
  /** Its place in lists and in upgrade suggestions, cheapest first. */
  readonly rank: number
  /** Whether the public listing and upgrade suggestions show it. */
  readonly visible: boolean
  /** Which edition of the plan this is, for whoever keeps several. */
  readonly version: number
  /** How many days a trial of it lasts; 0 where there is none. */
  readonly trialDays: number
  /** How many days after its end a subscription still grants; the file's own setting where null. */
  readonly graceDays: number | null
  /** What it costs, by billing interval, such as `{ monthly: 'BRL 297.00' }`. */
  readonly prices: Readonly<Record<string, string>>
  /** Its Stripe price ids, by billing interval. */
  readonly stripePrices: Readonly<Record<string, string>>
  /** What it can do, by name. */
  readonly features: Readonly<Record<string, FeatureValue>>
  /** How much it may use, by metric, such as `{ searches: ['5/day', '50/month'] }`. */
  readonly quotas: Readonly<Record<string, readonly string[]>>
  /** How much each member of an account on this plan may use of what the account has, by metric. */
  readonly memberQuotas: Readonly<Record<string, readonly string[]>>
  /** How many times over each of its rates holds. */
  readonly rateMultiplier: number
}

/** Where the plans in force came from, and whether the last refresh failed. */
export interface CatalogStatus {
  /** `'store'`, where `setPlans` put them or the host keeps them, or `'file'`. */
  readonly origin: 'store' | 'file'
  /** Their version in the store; 0 for plans from a file. */
  readonly version: number
  /** When they were last found to be current. */
  readonly loadedAt: Date
  /** Why the last refresh failed, if it did: the plans in force are older than they should be. */
  readonly lastError: string | null
}

/** @internal */
export interface WirePlan {
  id: string
  name: string
  names?: Record<string, string>
  description?: string | null
  rank: number
  visible: boolean
  version: number
  trial_days?: number
  grace_days?: number | null
  prices?: Record<string, string>
  stripe_prices?: Record<string, string>
  features?: Record<string, FeatureValue>
  quotas?: Record<string, string | string[]>
  member_quotas?: Record<string, string | string[]>
  rate_multiplier?: number
}

/** @internal */
export interface WireCatalogStatus {
  origin: 'store' | 'file'
  version: number
  loaded_at: string
  last_error: string | null
}

/** One limit or several, as a list. */
function readLimits (limits: Record<string, string | string[]> | undefined): Readonly<Record<string, readonly string[]>> {
  const lists = Object.entries(limits ?? {}).map(([metric, given]) =>
    [metric, Object.freeze(typeof given === 'string' ? [given] : given)] as const)
  return Object.freeze(Object.fromEntries(lists))
}

/** @internal */
export function readPlan (wire: WirePlan): Plan {
  return Object.freeze({
    id: wire.id,
    name: wire.name,
    names: Object.freeze(wire.names ?? {}),
    description: wire.description ?? null,
    rank: wire.rank,
    visible: wire.visible,
    version: wire.version,
    trialDays: wire.trial_days ?? 0,
    graceDays: wire.grace_days ?? null,
    prices: Object.freeze(wire.prices ?? {}),
    stripePrices: Object.freeze(wire.stripe_prices ?? {}),
    features: Object.freeze(wire.features ?? {}),
    quotas: readLimits(wire.quotas),
    memberQuotas: readLimits(wire.member_quotas),
    rateMultiplier: wire.rate_multiplier ?? 1,
  })
}

/** @internal */
export function readPlanList (wire: WirePlan[]): readonly Plan[] {
  return Object.freeze(wire.map(readPlan))
}

/** @internal */
export function readCatalogStatus (wire: WireCatalogStatus | null): CatalogStatus | null {
  if (wire === null) return null
  const { origin, version, loaded_at: loadedAt, last_error: lastError } = wire
  return Object.freeze({ origin, version, loadedAt: date(loadedAt) as Date, lastError })
}

interface Told { json: string, plans: WirePlan[], defaultPlan: string }

/** All plans of a plans file, checked and ready to decide by. */
export class Plans {
  /** All plans by rank, hidden ones too. */
  readonly plans: readonly Plan[]
  /** The plan of a subject that has no subscription. */
  readonly defaultPlan: Plan
  readonly #json: string

  private constructor (told: Told) {
    this.#json = told.json
    this.plans = readPlanList(told.plans)
    this.defaultPlan = this.get(told.defaultPlan)
    Object.freeze(this)
  }

  /** Reads a plans file, TOML or JSON by its ending. Rejects with every problem's line and key. */
  static async read (path: string): Promise<Plans> {
    return await begun(addon.readPlans(home, text('path', path)), told => new Plans(told as Told))
  }

  /** Takes plans from a text in TOML. Throws `plans_refused`. */
  static fromToml (toml: string): Plans {
    return new Plans(outcome(addon.parsePlans(text('toml', toml), true)) as Told)
  }

  /** Takes plans from a text in JSON. Throws `plans_refused`. */
  static fromJson (json: string): Plans {
    return new Plans(outcome(addon.parsePlans(text('json', json), false)) as Told)
  }

  /** Takes plans from an object of the plans file's schema. Throws `plans_refused`. */
  static from (plans: PlansSource): Plans {
    if (typeof plans !== 'object' || plans === null) throw refusedValue('plans', plans, 'an object of the plans file\'s schema')
    return Plans.fromJson(JSON.stringify(plans, null, 2))
  }

  /** The plan of this id. Throws `unknown_name`, which lists the plans there are. */
  get (id: string): Plan {
    const found = this.plans.find(plan => plan.id === id)
    if (found !== undefined) return found
    const known = this.plans.map(plan => plan.id)
    const message = `unknown plan ${JSON.stringify(id)}; the plans know: ${known.join(', ')}`
    throw QuotumError.of({ code: 'unknown_name', message, kind: 'plan', name: id, known })
  }

  /** The plans file, as JSON, that reads back as these plans. */
  toJson (): string {
    return this.#json
  }
}

/** Plans as an argument, as the addon reads them. @internal */
export type WirePlansSource = { path: string } | { json: string }

/** Plans as an argument: `Plans`, a plans file's object, or its path. @internal */
export function writePlans (argument: string, value: unknown): WirePlansSource {
  if (value instanceof Plans) return { json: value.toJson() }
  if (typeof value === 'string') return { path: text(argument, value) }
  if (value instanceof URL && value.protocol === 'file:') return { path: decodeURIComponent(value.pathname) }
  if (typeof value === 'object' && value !== null) return { json: Plans.from(value as PlansSource).toJson() }
  throw refusedValue(argument, value, 'a path, an object of the plans file\'s schema, or Plans')
}
