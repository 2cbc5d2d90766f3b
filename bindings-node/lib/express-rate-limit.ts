// A store for express-rate-limit: the middleware stays, and what it counts is exact and bounded.

import type { ClientRateLimitInfo, IncrementResponse, Options, Store } from 'express-rate-limit'

import { refused, refusedValue, whole } from './argument.js'
import { warn, words } from './functions.js'
import { Hits, windowOf, type HitsOptions } from './hits.js'

export type { HitsOptions as QuotumStoreOptions } from './hits.js'

/** What is counted: hits in a window, and which limit they have, where that must be known. */
interface Settings { readonly windowS: number, readonly limit: number | undefined }

/**
 * A store of express-rate-limit 7 and newer.
 *
 * ```js
 * app.use(rateLimit({ windowMs: 15 * 60_000, limit: 100, store: new QuotumStore() }))
 * ```
 *
 * Memory is bounded by `ratesMax`, and no other keys, however many, give a blocked one a fresh allowance. Windows are fixed;
 * those of all keys begin and end together. With the `url` of a store, several processes count together: `limit` units at
 * once, which then come back one by one, one every `windowMs / limit`.
 *
 * Windows are whole seconds, up to a day. With a `url`, a `limit` that is a function or 0 is refused, and so are
 * `skipFailedRequests` and `skipSuccessfulRequests`, because a store keeps when units come back and not who took them. What is
 * refused is a warning of the process, and every request then fails: leave `passOnStoreError` as it is, `false`.
 */
export class QuotumStore implements Store {
  /** Whether each process counts by itself. */
  readonly localKeys: boolean
  /** What keys begin with. */
  readonly prefix: string
  readonly #hits: Hits
  /** The middleware's window and limit, or why they cannot be. */
  #settings: Settings | undefined
  #refusal: unknown

  constructor (options: HitsOptions = {}) {
    this.#hits = new Hits(options)
    this.localKeys = !this.#hits.isShared
    this.prefix = this.#hits.prefix
  }

  /** Takes over the middleware's options. */
  async init (options: Options): Promise<void> {
    try {
      this.#settings = this.#read(options)
      await this.#hits.open()
    } catch (error) {
      // Not thrown: version 7 has nobody who would catch it. Every request is told.
      this.#refusal = error
      warn(words(error))
    }
  }

  #read ({ windowMs, limit, skipFailedRequests, skipSuccessfulRequests }: Options): Settings {
    const windowS = windowOf('windowMs', windowMs)
    if (!this.#hits.isShared) return { windowS, limit: undefined }
    for (const [option, skips] of Object.entries({ skipFailedRequests, skipSuccessfulRequests })) {
      if (skips) throw refused(option, 'true', 'false, where processes count together: a hit cannot be taken back')
    }
    if (typeof limit === 'number' && limit > 0) return { windowS, limit: whole('limit', limit) }
    throw refusedValue('limit', limit, 'a number from 1, where processes count together: make a limiter for each limit')
  }

  #set (): Settings {
    if (this.#settings !== undefined) return this.#settings
    throw this.#refusal ?? new Error('this store was not given to a limiter: rateLimit({ store: new QuotumStore() })')
  }

  /** Counts one more hit of a key. */
  async increment (key: string): Promise<IncrementResponse> {
    const { windowS, limit } = this.#set()
    const { count, resetMs } = await this.#hits.add(key, windowS, limit)
    return { totalHits: count, resetTime: new Date(Date.now() + resetMs) }
  }

  /** How a key stands; undefined where it has no hits. */
  async get (key: string): Promise<ClientRateLimitInfo | undefined> {
    const { windowS, limit } = this.#set()
    const { count, resetMs } = await this.#hits.look(key, windowS, limit)
    return count === 0 ? undefined : { totalHits: count, resetTime: new Date(Date.now() + resetMs) }
  }

  /** Takes a hit back. Rejects where processes count together. */
  async decrement (key: string): Promise<void> {
    if (this.#hits.isShared) throw refused('decrement', 'a hit to take back', 'none, where processes count together')
    await this.#hits.takeBack(key, this.#set().windowS)
  }

  /** Forgets the hits of a key. */
  async resetKey (key: string): Promise<void> {
    await this.#hits.clear(key)
  }

  /** Forgets the hits of all keys. Rejects where processes count together. */
  async resetAll (): Promise<void> {
    await this.#hits.clearAll()
  }

  /** Closes the engine. */
  async shutdown (): Promise<void> {
    await this.#hits.close()
  }
}
