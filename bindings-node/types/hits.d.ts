import type { ManualClock } from './clock.js';
import { Quota } from './quota.js';
/** Where hits are counted. */
export interface HitsOptions {
    /** The URL of a store, for several processes to count together. `'memory:'` by default: each counts by itself. */
    readonly url?: string | URL;
    /** How many keys are kept in memory; 100,000 by default. Half of it may be live before they crowd each other. */
    readonly ratesMax?: number;
    /** What keys begin with, to tell several limiters apart that share a store. */
    readonly prefix?: string;
    /** A clock for tests; the system's by default. */
    readonly clock?: ManualClock;
}
/** How one key stands. */
export interface Hit {
    /** How often it has asked in this window. */
    readonly count: number;
    /** How long until it may ask again, where it has asked too often, or until the window ends. */
    readonly resetMs: number;
}
/** The length of a window that an engine can count in, in seconds. An error names the option. */
export declare function windowOf(option: string, ms: unknown): number;
/** Hits by key, counted by an engine of its own. */
export declare class Hits {
    #private;
    /** Whether several processes count together: it knows the limit then, and counts no further than it. */
    readonly isShared: boolean;
    /** What keys begin with. */
    readonly prefix: string;
    constructor(options?: HitsOptions);
    /** The engine, which is opened by whoever first asks. One that could not be opened is tried anew by the next. */
    open(): Promise<Quota>;
    /** Counts one more. `limit` is what is allowed in a window; without a store, it need not be known. */
    add(key: string, windowS: number, limit?: number): Promise<Hit>;
    /** Looks, and counts nothing. */
    look(key: string, windowS: number, limit?: number): Promise<Hit>;
    /** Takes one back, of the present window. */
    takeBack(key: string, windowS: number): Promise<void>;
    /** Gives a key its whole allowance back. */
    clear(key: string): Promise<void>;
    /** Gives every key its whole allowance back. */
    clearAll(): Promise<void>;
    /** Ends, if it has begun. Afterwards, counting rejects with `closed`. */
    close(): Promise<void>;
}
