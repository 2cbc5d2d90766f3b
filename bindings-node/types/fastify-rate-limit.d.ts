import type { FastifyRateLimitStore } from '@fastify/rate-limit';
import { Hits, type HitsOptions } from './hits.js';
export type { HitsOptions as QuotumStoreOptions } from './hits.js';
/** What the plugin is told: how a key stands, or why that cannot be known. */
export type Callback = (error: Error | null, result?: {
    /** How often the key has asked in this window. */
    current: number;
    /** How long until it may ask again, in milliseconds. */
    ttl: number;
}) => void;
/** A class of stores that count together, for the plugin to make one of. */
export interface QuotumStoreMaker {
    new (params: object): QuotumStore;
    /** Closes the engine: for the app's hook `onClose`. */
    close(): Promise<void>;
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
export declare class QuotumStore implements FastifyRateLimitStore {
    #private;
    /** Made by the plugin. */
    constructor(params: object, hits?: Hits, route?: string);
    /** The store with options: the same class, for the plugin to make. */
    static using(options: HitsOptions): QuotumStoreMaker;
    /** Counts one more hit of a key. */
    incr(key: string, callback: Callback, timeWindow: number, max: number): void;
    /** Looks, and counts nothing. */
    read(key: string, callback: Callback, timeWindow: number, max: number): void;
    /** The store for a route with options of its own, whose hits are its own. */
    child(params: object): QuotumStore;
}
