import type { FeatureValue, Limits, Names } from './names.js';
/** The states of a subscription. */
export type Status = 'trialing' | 'active' | 'past_due' | 'paused' | 'canceled';
/** What one subject has in place of what its plan says. What is not named is as in the plan. */
export interface Overrides<N extends Names = Names> {
    /** Features by name. */
    readonly features?: {
        readonly [F in N['feature']]?: FeatureValue;
    };
    /** All limits of a metric, by metric, such as `{ searches: ['5/day', '100/month'] }`. */
    readonly quotas?: {
        readonly [M in N['metric']]?: Limits;
    };
}
/** What is to be said of a subscription, besides its plan. */
export interface SubscriptionFields<N extends Names = Names> extends Overrides<N> {
    /** The state it is in; `'active'` by default. */
    readonly status?: Status;
    /** When it came into that state; now, by default. */
    readonly since?: Date | null;
    /** When its trial ends. */
    readonly trialEndsAt?: Date | null;
    /** When what was paid for ends. */
    readonly expiresAt?: Date | null;
    /** From when billing periods are counted. */
    readonly anchor?: Date | null;
    /** The IANA zone of its calendar periods, where it is not that of the plans. */
    readonly zone?: string | null;
    /** The account it belongs to, such as its team. */
    readonly account?: string | null;
}
/** A subscription, as a function of the host's says it. */
export interface SubscriptionSource<N extends Names = Names> extends SubscriptionFields<N> {
    /** The id of the plan. */
    readonly plan: N['plan'];
}
/** Which plan a subject is on, since when and until when. */
export interface Subscription<N extends Names = Names> {
    /** The id of the plan. */
    readonly plan: N['plan'];
    /** The state it is in. */
    readonly status: Status;
    /** When it came into that state. */
    readonly since: Date;
    /** When its trial ends. */
    readonly trialEndsAt: Date | null;
    /** When what was paid for ends. */
    readonly expiresAt: Date | null;
    /** From when billing periods are counted. */
    readonly anchor: Date | null;
    /** The IANA zone of its calendar periods, where it is not that of the plans. */
    readonly zone: string | null;
    /** The account it belongs to, such as its team. */
    readonly account: string | null;
    /** Features that it has in place of its plan's. */
    readonly features: Readonly<Record<string, FeatureValue>>;
    /** Limits that it has in place of its plan's, by metric. */
    readonly quotas: Readonly<Record<string, readonly string[]>>;
}
/** A subject that has a subscription, as a listing shows it. */
export interface Subscriber<N extends Names = Names> {
    /** Who. */
    readonly subject: string;
    /** What it has subscribed to. */
    readonly subscription: Subscription<N>;
}
/** How many subjects have a subscription to a plan in a state. */
export interface Census<N extends Names = Names> {
    /** The id of the plan. */
    readonly plan: N['plan'];
    /** The state. */
    readonly status: Status;
    /** How many subjects. */
    readonly subjects: number;
}
