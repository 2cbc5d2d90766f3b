import { ManualClock } from './clock.js';
import { type QuotaEvent } from './event.js';
import type { Names, PlansSource } from './names.js';
import { Plans } from './plans.js';
import { type Awaitable } from './store.js';
import { type SubscriptionSource } from './subscription.js';
/** Whom a token speaks for, as a verifier says it. */
export interface IdentitySource {
    /** Who is metered. */
    readonly subject: string;
    /** When the token ceases to be valid, if it does by itself. */
    readonly expiresAt?: Date | null;
    /** What else the backend wants to know of the caller. Not the token itself: attributes are printed. */
    readonly attributes?: Readonly<Record<string, string>>;
}
/** What is told of every event: a function, or an `EventEmitter`, which emits each event under its own name. */
export type Listener = ((event: QuotaEvent) => unknown) | {
    /** Tells whoever listens to events of this name. */
    emit(name: string, event: QuotaEvent): unknown;
};
/** What can be chosen about an engine. Time spans are whole milliseconds. */
export interface QuotaOptions<N extends Names = Names> {
    /**
     * The path of a plans file, its object, or `Plans`, in force as long as the store has no plans; or a function that returns
     * one of them, in place of the store.
     */
    readonly plans?: string | URL | PlansSource | Plans | (() => Awaitable<string | PlansSource | Plans | null | undefined>);
    /** Which subscription a subject has: it, the id of a plan that it is active on, or nothing. In place of the store. */
    readonly subscriptions?: (subject: string) => Awaitable<SubscriptionSource<N> | N['plan'] | null | undefined>;
    /**
     * Whom a token speaks for: an identity, the id of a subject, or nothing where it speaks for nobody. It is waited for as
     * long as the store.
     */
    readonly verifier?: (token: string) => Awaitable<IdentitySource | string | null | undefined>;
    /** A clock for tests; the system's by default. */
    readonly clock?: ManualClock;
    /** How long a request waits for the store, and for the verifier; 5,000 by default. */
    readonly storeTimeoutMs?: number;
    /** After how many failures in a row the store is not asked for a while; `false` for never. */
    readonly breaker?: boolean | {
        /** How many failures in a row; 5 by default. */
        readonly failures?: number;
        /** How long it is not asked at first; 1,000 by default. */
        readonly coolDownMs?: number;
        /** How long at the most; 30,000 by default. */
        readonly coolDownMaxMs?: number;
    };
    /** Whether units are granted from leased blocks, of quotas whose plan does not say; `'auto'` by default. */
    readonly lease?: 'auto' | 'off' | {
        /** The most units of one block. */
        readonly max?: number;
        /** For how long a block is leased, in seconds: 1 to 3,600, and 10 by default. */
        readonly ttlS?: number;
    };
    /** What becomes of denials, until `setEnforcement` says otherwise; `'enforce'` by default. */
    readonly enforcement?: Enforcement;
    /** How long plans are served before they are refreshed; 300,000 by default. */
    readonly catalogTtlMs?: number;
    /** How long a subscription is served before the store is asked again; 30,000 by default. */
    readonly subscriptionTtlMs?: number;
    /** How often the store is asked what other processes have changed; 1,000 by default. */
    readonly feedIntervalMs?: number;
    /** How long an idempotency key is remembered, and what became of a reservation; 24 hours by default. */
    readonly idempotencyTtlMs?: number;
    /** How many subjects are kept in memory; 100,000 by default. */
    readonly recordsMax?: number;
    /** How many windows of rates are kept in memory; 100,000 by default. */
    readonly ratesMax?: number;
    /** How many tokens may be verified at once; 1,000 by default. */
    readonly verificationsMax?: number;
    /** How many identities are kept; 100,000 by default. */
    readonly tokensMax?: number;
    /** How long an identity is kept; 60,000 by default. */
    readonly tokenTtlMs?: number;
    /** How many refused tokens are kept; 10,000 by default. */
    readonly refusalsMax?: number;
    /** How long a refused token is kept; 10,000 by default. */
    readonly refusalTtlMs?: number;
    /** Whether identities are kept in the store too, by the digests of their tokens; `false` by default. */
    readonly tokensInStore?: boolean;
    /** A secret of at least 16 random bytes under which tokens are digested, the same in every process that shares a store. */
    readonly pepper?: Uint8Array;
    /** Who is told of every event. It may throw and be slow: events that it is too slow for are dropped, and counted. */
    readonly onEvent?: Listener;
    /** What the store's log keeps: `'changes'` by default, `'incidents'`, which is all but successes, or `'all'`. */
    readonly logEvents?: 'changes' | 'incidents' | 'all';
}
/** What becomes of denials: they are enforced, only told of, or nothing is asked. */
export type Enforcement = 'enforce' | 'shadow' | 'off';
