import type { ClientRateLimitInfo, IncrementResponse, Options, Store } from 'express-rate-limit';
import { type HitsOptions } from './hits.js';
export type { HitsOptions as QuotumStoreOptions } from './hits.js';
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
export declare class QuotumStore implements Store {
    #private;
    /** Whether each process counts by itself. */
    readonly localKeys: boolean;
    /** What keys begin with. */
    readonly prefix: string;
    constructor(options?: HitsOptions);
    /** Takes over the middleware's options. */
    init(options: Options): Promise<void>;
    /** Counts one more hit of a key. */
    increment(key: string): Promise<IncrementResponse>;
    /** How a key stands; undefined where it has no hits. */
    get(key: string): Promise<ClientRateLimitInfo | undefined>;
    /** Takes a hit back. Rejects where processes count together. */
    decrement(key: string): Promise<void>;
    /** Forgets the hits of a key. */
    resetKey(key: string): Promise<void>;
    /** Forgets the hits of all keys. Rejects where processes count together. */
    resetAll(): Promise<void>;
    /** Closes the engine. */
    shutdown(): Promise<void>;
}
