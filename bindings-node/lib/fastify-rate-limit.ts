// A store for @fastify/rate-limit: the plugin stays, and what it counts is exact and bounded.

import type { FastifyRateLimitStore } from '@fastify/rate-limit'

import { refused, refusedValue } from './argument.js'
import { Hits, windowOf, type Hit, type HitsOptions } from './hits.js'

export type { HitsOptions as QuotumStoreOptions } from './hits.js'

/** What the plugin is told: how a key stands, or why that cannot be known. */
export type Callback = (error: Error | null, result?: {
  /** How often the key has asked in this window. */
  current: number
  /** How long until it may ask again, in milliseconds. */
  ttl: number
}) => void

/** The options of the plugin, or of one route, that a store must know. */
interface Params {
  readonly max?: unknown
  readonly ban?: unknown
  readonly timeWindow?: unknown
  readonly continueExceeding?: unknown
  readonly exponentialBackoff?: unknown
  readonly routeInfo?: { readonly method?: unknown, readonly url?: unknown }
}

function tell (asked: () => Promise<Hit>, callback: Callback): void {
  const told = ({ count, resetMs }: Hit): void => { callback(null, { current: count, ttl: resetMs }) }
  asked().then(told, (error: Error) => { callback(error) })
}

/** A class of stores that count together, for the plugin to make one of. */
export interface QuotumStoreMaker {
  new (params: object): QuotumStore
  /** Closes the engine: for the app's hook `onClose`. */
  close (): Promise<void>
}

/** How many stores count in the memory of this process, each under a name of its own. */
let stores = 0

/** Refuses what cannot be kept, when the app starts. */
function check ({ ban, timeWindow, continueExceeding, exponentialBackoff }: Params, isShared: boolean): void {
  for (const [option, isOn] of Object.entries({ continueExceeding, exponentialBackoff })) {
    if (isOn === true) throw refused(option, 'true', 'false: windows end when they end. `ban` refuses whoever goes on')
  }
  if (typeof timeWindow === 'number') windowOf('timeWindow', timeWindow)
  if (isShared && Number(ban) > 0) {
    throw refusedValue('ban', ban, 'none, or 0, where processes count together: no hits are counted above the limit')
  }
}

/**
 * A store of @fastify/rate-limit 10 and newer.
 *
 * ```js
 * await app.register(rateLimit, { max: 100, timeWindow: '15 minutes', store: QuotumStore })
 * await app.register(rateLimit, { max: 100, store: QuotumStore.using({ url: 'redis://localhost' }) })
 * ```
 *
 * Memory is bounded by `ratesMax`, and no other keys, however many, give a blocked one a fresh allowance. Windows are fixed;
 * those of all keys begin and end together. With the `url` of a store, several processes count together: `max` units at
 * once, which then come back one by one, one every `timeWindow / max`.
 *
 * Windows are whole seconds, up to a day. `continueExceeding` and `exponentialBackoff` are refused, because windows end when
 * they end; with a `url`, so is a `ban` above 0, because no hits are counted above `max`. `cache` says nothing here.
 */
export class QuotumStore implements FastifyRateLimitStore {
  readonly #hits: Hits
  /** What keys begin with, for each route to count by itself. */
  readonly #route: string

  /** Made by the plugin. */
  constructor (params: object, hits: Hits = new Hits(), route = `${++stores}:`) {
    check(params, hits.isShared)
    this.#hits = hits
    this.#route = route
  }

  /** The store with options: the same class, for the plugin to make. */
  static using (options: HitsOptions): QuotumStoreMaker {
    const hits = new Hits(options)
    return class extends QuotumStore {
      constructor (params: object) {
        super(params, hits, hits.isShared ? ':' : undefined)
      }

      static async close (): Promise<void> {
        await hits.close()
      }
    }
  }

  /** Counts one more hit of a key. */
  incr (key: string, callback: Callback, timeWindow: number, max: number): void {
    tell(async () => await this.#hits.add(this.#route + key, windowOf('timeWindow', timeWindow), max), callback)
  }

  /** Looks, and counts nothing. */
  read (key: string, callback: Callback, timeWindow: number, max: number): void {
    tell(async () => await this.#hits.look(this.#route + key, windowOf('timeWindow', timeWindow), max), callback)
  }

  /** The store for a route with options of its own, whose hits are its own. */
  child (params: object): QuotumStore {
    const { method = '', url = '' } = (params as Params).routeInfo ?? {}
    return new QuotumStore(params, this.#hits, this.#hits.isShared ? `${String(method)}${String(url)}:` : undefined)
  }
}
