// Hits: how often keys ask in a window, counted for the middlewares of other libraries, which decide by the count.
//
// In memory, an engine counts in fixed windows, whatever the limit is, in bounded memory: where keys crowd each other out
// they start from what the others had used, and never afresh. In a store, for several processes together, units of a limit
// come back one by one, because that is what stores can keep.

import { refused, refusedValue, whole } from './argument.js'
import type { ManualClock } from './clock.js'
import type { RateState } from './decision.js'
import { QuotumError } from './errors.js'
import type { PlansSource, RateSource } from './names.js'
import { Quota } from './quota.js'

/** Where hits are counted. */
export interface HitsOptions {
  /** The URL of a store, for several processes to count together. `'memory:'` by default: each counts by itself. */
  readonly url?: string | URL
  /** How many keys are kept in memory; 100,000 by default. Half of it may be live before they crowd each other. */
  readonly ratesMax?: number
  /** What keys begin with, to tell several limiters apart that share a store. */
  readonly prefix?: string
  /** A clock for tests; the system's by default. */
  readonly clock?: ManualClock
}

/** How one key stands. */
export interface Hit {
  /** How often it has asked in this window. */
  readonly count: number
  /** How long until it may ask again, where it has asked too often, or until the window ends. */
  readonly resetMs: number
}

/** The most that a fixed window counts: more than anybody asks. */
const COUNT_MAX = 4_294_967_295

/** The longest window of a rate. */
const WINDOW_S_MAX = 86_400

/** How many windows one engine counts in. */
const SCOPES_MAX = 1_000

/** How often a catalog is read anew that was read before a window was known. */
const RETRIES = 2

/** The length of a window that an engine can count in, in seconds. An error names the option. */
export function windowOf (option: string, ms: unknown): number {
  const windowS = Number(ms) / 1_000
  if (typeof ms === 'number' && Number.isInteger(windowS) && windowS >= 1 && windowS <= WINDOW_S_MAX) return windowS
  const expected = 'whole seconds, from 1,000 to 86,400,000 ms: what lasts longer than a day is a quota of a plan'
  throw refusedValue(option, ms, expected)
}

/** Hits by key, counted by an engine of its own. */
export class Hits {
  /** Whether several processes count together: it knows the limit then, and counts no further than it. */
  readonly isShared: boolean
  /** What keys begin with. */
  readonly prefix: string
  readonly #options: HitsOptions
  readonly #rates: Record<string, RateSource> = {}
  #engine: Promise<Quota> | undefined

  constructor (options: HitsOptions = {}) {
    const { url = 'memory:', prefix = '' } = options
    this.isShared = String(url) !== 'memory:'
    this.prefix = prefix
    this.#options = options
  }

  /** The engine, which is opened by whoever first asks. One that could not be opened is tried anew by the next. */
  async open (): Promise<Quota> {
    const { url = 'memory:', ratesMax, clock } = this.#options
    const plans = (): PlansSource => ({ default_plan: 'hits', plans: { hits: {} }, rates: { ...this.#rates } })
    this.#engine ??= Quota.open(url, {
      plans,
      ...(ratesMax === undefined ? {} : { ratesMax }),
      ...(clock === undefined ? {} : { clock }),
    })
    const opening = this.#engine
    try {
      return await opening
    } catch (error) {
      if (this.#engine === opening) this.#engine = undefined
      throw error
    }
  }

  /** Counts one more. `limit` is what is allowed in a window; without a store, it need not be known. */
  async add (key: string, windowS: number, limit?: number): Promise<Hit> {
    const units = this.#unitsOf(limit)
    return await this.#ask(units, windowS, async (quota, scope) => {
      const { allowed, windows, retryAfterMs } = await quota.rate(scope, this.#keyOf(key))
      const { remaining, resetAfterMs } = windows[0] as RateState
      return { count: units - remaining + (allowed ? 0 : 1), resetMs: retryAfterMs ?? resetAfterMs }
    })
  }

  /** Looks, and counts nothing. */
  async look (key: string, windowS: number, limit?: number): Promise<Hit> {
    const units = this.#unitsOf(limit)
    return await this.#ask(units, windowS, async (quota, scope) => {
      const { rates, denied } = await quota.check({ rate: scope, rateKey: this.#keyOf(key) })
      const { remaining, resetAfterMs } = rates[0] as RateState
      return { count: units - remaining, resetMs: denied?.retryAfterMs ?? resetAfterMs }
    })
  }

  /** Takes one back, of the present window. */
  async takeBack (key: string, windowS: number): Promise<void> {
    await this.#ask(this.#unitsOf(undefined), windowS, async (quota, scope) => {
      await quota.refundRate(scope, this.#keyOf(key))
    })
  }

  /** Gives a key its whole allowance back. */
  async clear (key: string): Promise<void> {
    await (await this.open()).clearRates(this.#keyOf(key))
  }

  /** Gives every key its whole allowance back. */
  async clearAll (): Promise<void> {
    if (this.isShared) throw refused('url', 'the URL of a store', 'none, to reset all keys: a store resets each by itself')
    // Whoever is just being counted still is in the engine of before, which ends when nobody uses it any more.
    this.#engine = undefined
    await this.open()
  }

  /** Ends, if it has begun. Afterwards, counting rejects with `closed`. */
  async close (): Promise<void> {
    await (await this.#engine)?.close()
  }

  #unitsOf (limit: number | undefined): number {
    const units = this.isShared ? whole('limit', limit) : COUNT_MAX
    if (units === 0) throw refusedValue('limit', limit, 'a number from 1, where processes count together')
    return units
  }

  async #ask<T>(units: number, windowS: number, asked: (quota: Quota, scope: string) => Promise<T>): Promise<T> {
    const scope = this.#scopeOf(units, windowS)
    const quota = await this.open()
    for (let retries = RETRIES; ; retries--) {
      try {
        return await asked(quota, scope)
      } catch (error) {
        // The plans were read before this window was known.
        if (retries === 0 || !(error instanceof QuotumError) || error.code !== 'unknown_name') throw error
        quota.clearCatalog()
      }
    }
  }

  /** The scope for a window, which the plans then have. */
  #scopeOf (units: number, windowS: number): string {
    const scope = `${units}:${windowS}s`
    if (this.#rates[scope] !== undefined) return scope
    if (Object.keys(this.#rates).length === SCOPES_MAX) {
      throw refused('timeWindow', `more than ${SCOPES_MAX} windows and limits`, 'a few, that do not depend on requests')
    }
    const limits = `${units}/${windowS} second${windowS === 1 ? '' : 's'}`
    this.#rates[scope] = this.isShared ? { limits, shared: true } : { limits, algorithm: 'fixed_window' }
    return scope
  }

  #keyOf (key: unknown): string {
    return `${this.prefix}${String(key)}`.toWellFormed()
  }
}
