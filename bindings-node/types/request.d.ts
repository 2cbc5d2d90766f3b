import type { Costs, FeatureValue, Names } from './names.js';
/** The key of a rate: any text, or an address. An IPv6 address counts for its /64. */
export type RateKey = string | {
    /** An IPv4 or IPv6 address. */
    readonly ip: string;
};
/** Features that a plan must have: names, pairs of a name and a value, or an object of both. */
export type FeaturesAsked<N extends Names = Names> = readonly (N['feature'] | readonly [N['feature'], FeatureValue])[] | {
    readonly [F in N['feature']]?: FeatureValue;
};
/**
 * Everything that one request asks for: a rate, features and costs, all or nothing.
 *
 * It is by a subject, by whomever a token speaks for, or, with a `rateKey`, by nobody who is known.
 */
export interface AdmitRequest<N extends Names = Names> {
    /** Who asks. */
    readonly subject?: string;
    /** In place of the subject: a token, which the engine's verifier knows. */
    readonly token?: string;
    /** What is charged, such as `{ searches: 1 }`. */
    readonly costs?: Costs<N>;
    /** The scope that it counts on, for its subject or for `rateKey`. */
    readonly rate?: N['scope'];
    /** Whom the rate counts for, where that is not the subject, such as `{ ip: '203.0.113.7' }`. */
    readonly rateKey?: RateKey;
    /** How many times it counts; 1 by default. */
    readonly rateCost?: number;
    /** Features that the plan must have, and how much of them. */
    readonly features?: FeaturesAsked<N>;
    /** Under which it is charged once, however often it is asked. */
    readonly idempotencyKey?: string;
}
