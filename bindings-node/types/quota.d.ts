import { type Decision, type Identity, type QuotaState, type RateDecision } from './decision.js';
import { type QuotaEvent } from './event.js';
import type { Costs, FeatureValue, Names, NamesOf, PlansSource } from './names.js';
import { type Enforcement, type QuotaOptions } from './options.js';
import { type CatalogStatus, type Plan, type Plans } from './plans.js';
import type { EventQuery, SubscriberQuery } from './query.js';
import { type AdmitRequest, type RateKey } from './request.js';
import { Reservation, type CallOptions, type Settlement } from './reservation.js';
import type { Store } from './store.js';
import { Subject, type ConsumeOptions } from './subject.js';
import { type Census, type Overrides, type Subscriber, type Subscription, type SubscriptionFields } from './subscription.js';
import { type Usage } from './usage.js';
/** How units are set aside. */
export interface ReserveOptions extends ConsumeOptions {
    /** For how long, in milliseconds: 1 to 7 days. What is not settled by then is given back. */
    readonly ttlMs: number;
}
/** How the cache of tokens has done. */
export interface TokenStats {
    /** Tokens that were known. */
    readonly hits: number;
    /** Tokens that were known to be refused. */
    readonly negativeHits: number;
    /** Tokens for which the verifier was asked. */
    readonly misses: number;
    /** Identities that had to make room for others. */
    readonly evictions: number;
}
/**
 * The engine: asks a store, decides by the plans. Safe to use from every request of a process at once; each worker thread
 * and each process opens its own, on the same store.
 *
 * ```js
 * const quota = await Quota.open('sqlite:quota.db', { plans: 'plans.toml' })
 * const decision = await quota.consume('user-42', { searches: 1 })
 * if (!decision.allowed) console.log(decision.reason, decision.upgradeTo)
 * ```
 *
 * Verbs return promises, and never block the event loop; those that begin with `try` answer at once where memory can tell. A
 * denial is a value. What goes wrong otherwise is a `QuotumError`.
 */
export declare class Quota<N extends Names = Names> implements AsyncDisposable {
    #private;
    private constructor();
    /**
     * Opens an engine on the store that a URL names, such as `'sqlite:quota.db'`, `'memory:'`, `'postgres://…'` or
     * `'redis://…'`, or on one of the host's own.
     *
     * Plans that are an object in TypeScript have the compiler know their names; so does a type argument.
     *
     * Rejects with `invalid_argument` for a URL or an option that cannot be, `plans_refused` or `no_plans` for plans that are
     * refused or missing, and `store_failed` for a store that cannot be opened.
     */
    static open<const P extends PlansSource>(store: string | URL | Store, options: QuotaOptions<NamesOf<P>> & {
        readonly plans: P;
    }): Promise<Quota<NamesOf<P>>>;
    static open<N extends Names = Names>(store: string | URL | Store, options?: QuotaOptions<N> & {
        readonly plans?: Exclude<QuotaOptions<N>['plans'], PlansSource>;
    }): Promise<Quota<N>>;
    /**
     * Decides on everything that one request asks for: a rate, features and costs, all or nothing. What the middlewares call.
     *
     * ```js
     * const decision = await quota.admit({ subject: 'user-42', rate: 'api', features: ['excel'], costs: { searches: 1 } })
     * ```
     *
     * Rejects with `unknown_name` for what no plan names, `conflict` where the idempotency key was used before with other
     * arguments, and `verify_failed` where the verifier cannot tell. A store that cannot answer is a denial, `store_unavailable`,
     * unless the plan allows units without it.
     */
    admit(request: AdmitRequest<N>, options?: CallOptions): Promise<Decision>;
    /** The same, where memory can tell; undefined where the store or the verifier is needed: nothing has been done then. */
    tryAdmit(request: AdmitRequest<N>): Decision | undefined;
    /**
     * Whom a token speaks for; null for one that is malformed, unknown, revoked or expired.
     *
     * Rejects with `verify_failed` where the verifier cannot tell, and `invalid_argument` for an engine without one.
     */
    authenticate(given: string, options?: CallOptions): Promise<Identity | null>;
    /**
     * Charges every cost, or none where one does not fit. Under an idempotency key, once.
     *
     * ```js
     * const decision = await quota.consume('user-42', { searches: 1 }, { idempotencyKey: request.id })
     * ```
     *
     * Rejects as {@link admit} does.
     */
    consume(subject: string, costs: Costs<N>, options?: ConsumeOptions): Promise<Decision>;
    /** The same, where memory can tell; undefined where the store is needed: nothing has been charged then. */
    tryConsume(subject: string, costs: Costs<N>): Decision | undefined;
    /**
     * Whether it would be allowed now: costs, or everything that a request asks for. Consumes nothing, promises nothing.
     *
     * ```js
     * const { rates } = await quota.check({ rate: 'login', rateKey: { ip: request.ip } })
     * ```
     *
     * Rejects as {@link admit} does.
     */
    check(subject: string, costs: Costs<N>, options?: CallOptions): Promise<Decision>;
    check(request: AdmitRequest<N>, options?: CallOptions): Promise<Decision>;
    /** The same, where memory can tell; undefined where the store is needed. */
    tryCheck(subject: string, costs: Costs<N>): Decision | undefined;
    /**
     * Sets units aside for a request whose cost is known later. Whatever else the request asks for, as in {@link admit}, is
     * decided first.
     *
     * ```js
     * await using reservation = await quota.reserve('user-42', { tokens: 2_000 }, { ttlMs: 120_000 })
     * if (reservation.allowed) await reservation.commit({ tokens: (await answer()).tokens })
     * ```
     *
     * Rejects as {@link admit} does.
     */
    reserve(subject: string, costs: Costs<N>, options: ReserveOptions): Promise<Reservation<N>>;
    reserve(request: AdmitRequest<N>, options: ReserveOptions): Promise<Reservation<N>>;
    /** Commits a reservation by its id, in this process or another: see `Reservation.commit`. */
    commit(reservation: string, actual?: Costs<N>, options?: CallOptions): Promise<Settlement>;
    /** Releases a reservation by its id: see `Reservation.release`. */
    release(reservation: string, options?: CallOptions): Promise<Settlement>;
    /** Gives back what was consumed in the present periods, overage first and never below zero. */
    refund(subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]>;
    /** Lowers levels, such as storage, that never reset. */
    giveBack(subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]>;
    /** Grants units on top of the plan's limits, in the present periods only. */
    grant(subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]>;
    /** Forgets what was used of a metric in the present periods. What is reserved stays so. */
    resetUsage(subject: string, metric: N['metric'], options?: CallOptions): Promise<readonly QuotaState[]>;
    /** Every quota of a subject, its plan and its state: what an account page shows. */
    usage(subject: string, options?: CallOptions): Promise<Usage>;
    /** What a subject's plan has of a feature; null where it has nothing of it. */
    feature(subject: string, name: N['feature'], options?: CallOptions): Promise<FeatureValue | null>;
    /**
     * Whether a subject's plan has a feature, or as much of it as `value`.
     *
     * ```js
     * await quota.require('user-42', 'max_history_days', 90)
     * ```
     */
    require(subject: string, name: N['feature'], value?: FeatureValue, options?: CallOptions): Promise<Decision>;
    /**
     * The limiter alone: counts `cost` on a scope's rate, for a key that need not be a subject.
     *
     * ```js
     * const attempt = await quota.rate('login', { ip: request.ip })
     * ```
     */
    rate(scope: N['scope'], key: RateKey, cost?: number, options?: CallOptions): Promise<RateDecision>;
    /**
     * Gives back units that {@link rate} has counted for a key, such as a login that went well where only failures are to
     * count. Never more than the whole allowance. Rejects with `invalid_argument` for a scope whose rate is shared.
     */
    refundRate(scope: N['scope'], key: RateKey, units?: number, options?: CallOptions): Promise<RateDecision>;
    /** Gives a key its whole allowance back, in every scope, in this process. */
    clearRates(key: RateKey, options?: CallOptions): Promise<void>;
    /** The plans that the public may see, by rank. */
    plans(options?: CallOptions): Promise<readonly Plan[]>;
    /**
     * Puts plans into the store, in place of those it has and of the plans file. Resolves to their version. In force at once in
     * this process, elsewhere within `catalogTtlMs`. Rejects with `plans_refused`.
     */
    setPlans(plans: string | URL | PlansSource | Plans, options?: CallOptions): Promise<number>;
    /** Has the next caller read the plans anew, from the store or the plans file. */
    clearCatalog(): void;
    /** Where the plans in force came from, and whether the last refresh failed; null before the first. */
    get catalogStatus(): CatalogStatus | null;
    /** The subscription of a subject as the store has it; null for a subject on the default plan. */
    subscription(subject: string, options?: CallOptions): Promise<Subscription<N> | null>;
    /**
     * Gives a subject a subscription in place of any it had. In force at once in this process, elsewhere within a second.
     *
     * ```js
     * await quota.subscribe('user-42', 'pro', { expiresAt: new Date('2027-01-01') })
     * ```
     */
    subscribe(subject: string, plan: N['plan'], given?: SubscriptionFields<N>, options?: CallOptions): Promise<void>;
    /** Ends a subject's subscription. What is paid for until `expiresAt` still grants. */
    cancel(subject: string, options?: CallOptions): Promise<Subscription<N>>;
    /** Gives a subject features and limits of its own, in place of all it had of its own before. */
    setOverrides(subject: string, overrides: Overrides<N>, options?: CallOptions): Promise<Subscription<N>>;
    /** Switches enforcement, of everything or of one metric. At once in this process, within a second in others. */
    setEnforcement(mode: Enforcement, options?: CallOptions & {
        readonly metric?: N['metric'];
    }): Promise<void>;
    /** Subjects that have a subscription, in the order of their ids, in pages. */
    subscribers(query?: SubscriberQuery<N>, options?: CallOptions): Promise<readonly Subscriber<N>[]>;
    /** How many subjects are on each plan, by the state of their subscription. */
    census(options?: CallOptions): Promise<readonly Census<N>[]>;
    /** Reads the store's log, in pages. With `changesOnly` it is the audit trail: who changed what, and when. */
    events(query?: EventQuery, options?: CallOptions): Promise<readonly QuotaEvent[]>;
    /** Has a token verified anew, because it was revoked: at once in this process, within a second in others. */
    forgetToken(given: string, options?: CallOptions): Promise<void>;
    /** Has every token of a subject verified anew, and its subscription read anew. */
    forgetSubject(subject: string, options?: CallOptions): Promise<void>;
    /** The same engine, for changes that `actor` makes: the audit trail then says so. */
    actingAs(actor: string): Quota<N>;
    /** A handle to a subject, for whoever asks about it often. The store is not asked yet. */
    subject(id: string): Subject<N>;
    /** The time by the engine's clock. */
    get now(): Date;
    /** How many events were dropped because the listener or the log could not keep up. */
    get eventsDropped(): number;
    /** How the cache of tokens has done; null for an engine without a verifier. */
    get tokenStats(): TokenStats | null;
    /** Everything that there is to measure, as OpenMetrics text for Prometheus: see `METRICS_TYPE` of `quotum/http`. */
    metrics(): string;
    /**
     * Charges and returns what is owed and leased, gives back what is reserved and not settled, and ends, with every handle
     * and every `actingAs` of it. Afterwards every verb rejects with `closed`.
     *
     * Rejects with `store_failed` where the store cannot answer: what was owed is lost then.
     */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
