import type { Costs, FeatureValue, Names } from './names.js';
import type { RateKey } from './request.js';
import type { Awaitable } from './store.js';
/** Who stands behind a request, for the functions that find parts of a rule. */
export interface Client {
    /** The address that the request comes from, behind the trusted proxies. All that have none share one. */
    readonly address: {
        readonly ip: string;
    };
}
/** A function of a request and of who stands behind it. A method, for the compiler to take one of a narrower request too. */
export type Find<R, T> = {
    /** Finds it. */
    find(request: R, client: Client): Awaitable<T>;
}['find'];
/** A part of a rule: a value, or a function that finds it for each request. */
export type Part<R, T> = T | Find<R, T>;
/** What a rule charges: units by metric, each of them or all together found for each request. */
export type CostParts<R, N extends Names = Names> = {
    readonly [M in N['metric']]?: Part<R, number>;
} | Find<R, Costs<N>>;
/**
 * Features that a rule requires: names, pairs of a name and a value, or an object of both. A function that finds nothing
 * requires the feature as such; one that finds `false` requires nothing.
 */
export type FeatureParts<R, N extends Names = Names> = readonly (N['feature'] | readonly [N['feature'], Part<R, FeatureValue | undefined>])[] | {
    readonly [F in N['feature']]?: Part<R, FeatureValue | undefined>;
};
/** What every request to an endpoint asks for: a rate, features and costs, all or nothing. */
export interface Rule<R, N extends Names = Names> {
    /** What is charged, such as `{ searches: 1 }`. */
    readonly costs?: CostParts<R, N>;
    /** The scope that it counts on, for whoever asks or for `rateKey`. */
    readonly rate?: N['scope'];
    /**
     * Whom the rate counts for, where that is not whoever asks, such as {@link byAddress}. A rule about such a rate alone does
     * not ask who asks.
     */
    readonly rateKey?: Part<R, RateKey>;
    /** How many times it counts; 1 by default. */
    readonly rateCost?: Part<R, number>;
    /** Features that the plan must have, and how much of them. */
    readonly features?: FeatureParts<R, N>;
    /**
     * Under which it is charged once, however often it is asked; nothing where there is none. Where clients choose it, the
     * handler looks at `decision.repeated`: the same key passes again, and is not charged again.
     */
    readonly idempotencyKey?: Part<R, string | readonly string[] | undefined>;
    /**
     * Has the costs set aside only, for so many milliseconds at the most: the handler commits what was really used. What is
     * not committed is given back when the response has been sent, could not be sent, or when the client went away.
     */
    readonly reserveMs?: number;
}
/** What else a reservation asks for. */
export interface ReserveRule<R, N extends Names = Names> extends Omit<Rule<R, N>, 'costs' | 'reserveMs'> {
    /** For how long, in milliseconds: longer than the longest response takes. */
    readonly ttlMs: number;
}
/** The key of a rate: the client's address. For `rateKey`, and for the verb `rate`. */
export declare function byAddress(_request: unknown, client: Client): RateKey;
/** The verbs by which a backend says what an endpoint asks for. What each makes, its framework puts before the endpoint. */
export declare abstract class Verbs<R, N extends Names, Made> {
    /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
    abstract admit(rule: Rule<R, N>): Made;
    /** Charges every cost, or none. It stays charged, whatever then becomes of the request. */
    consume(costs: CostParts<R, N>, options?: Pick<Rule<R, N>, 'idempotencyKey'>): Made;
    /** Requires a feature of the caller's plan, or as much of it as `value`. */
    require(feature: N['feature'], value?: Part<R, FeatureValue | undefined>): Made;
    /** Counts on a scope's rate: for the caller, or for a key, such as {@link byAddress}. */
    rate(scope: N['scope'], key?: Part<R, RateKey>, cost?: Part<R, number>): Made;
    /**
     * Sets costs aside, for `ttlMs` at the most, for a handler that commits what was really used. What is not committed is
     * given back when the response has been sent, could not be sent, or when the client went away.
     */
    reserve(costs: CostParts<R, N>, options: ReserveRule<R, N>): Made;
}
