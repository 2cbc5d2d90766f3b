// The engine: every verb once.

import { addon, home } from './addon.js'
import { flag, onlyKeys, plain, refusedValue, span, text, token, whole, word } from './argument.js'
import { authenticate, decide, IS_LOOK, IS_TOKEN, MAY_ASK, pace, UNWRITTEN } from './decide.js'
import {
  date, readDecision, readQuotas, readRateDecision,
  type Decision, type Identity, type QuotaState, type RateDecision, type WireQuota, type WireTold,
} from './decision.js'
import { EVENT_NAMES, readEvent, type EventName, type QuotaEvent, type WireEvent } from './event.js'
import { unregister } from './functions.js'
import type { Costs, FeatureValue, Names, NamesOf, PlansSource } from './names.js'
import { ENFORCEMENTS, writeOptions, type Enforcement, type QuotaOptions } from './options.js'
import { readCatalogStatus, readPlanList, writePlans, type CatalogStatus, type Plan, type Plans, type WireCatalogStatus, type WirePlan } from './plans.js'
import type { EventQuery, SubscriberQuery } from './query.js'
import { writeCosts, writeRateKey, writeRequest, type AdmitRequest, type RateKey } from './request.js'
import { readSettlement, Reservation, signalOf, type CallOptions, type Settlement } from './reservation.js'
import type { Store } from './store.js'
import { Subject, type ConsumeOptions } from './subject.js'
import {
  readSubscriber, readSubscription, STATUSES, writeOverrides, writeSubscription,
  type Census, type Overrides, type Status, type Subscriber, type Subscription, type SubscriptionFields, type WireSubscription,
} from './subscription.js'
import { begun, outcome } from './tasks.js'
import { readUsage, type Usage, type WireUsage } from './usage.js'

/** How units are set aside. */
export interface ReserveOptions extends ConsumeOptions {
  /** For how long, in milliseconds: 1 to 7 days. What is not settled by then is given back. */
  readonly ttlMs: number
}

/** How the cache of tokens has done. */
export interface TokenStats {
  /** Tokens that were known. */
  readonly hits: number
  /** Tokens that were known to be refused. */
  readonly negativeHits: number
  /** Tokens for which the verifier was asked. */
  readonly misses: number
  /** Identities that had to make room for others. */
  readonly evictions: number
}

/** How many entries a listing has, where nobody says. */
const PAGE = 100

/** What an engine's end lets go of. */
interface Held { readonly number: number, readonly functions: readonly number[] }

const forgotten = new FinalizationRegistry<Held>(({ number, functions }) => {
  addon.dropEngine(home, number)
  unregister(functions)
})

type Fields = Record<string, unknown>

const none = (): void => {}

/** The fields that are given, each as it is read. */
function fields (argument: string, given: object, reads: Readonly<Record<string, (name: string, value: never) => unknown>>): Fields {
  onlyKeys(argument, plain(argument, given, 'an object'), Object.keys(reads))
  const all = Object.entries(given).filter(([, value]) => value !== undefined && value !== null)
  return Object.fromEntries(all.map(([name, value]) => [name, reads[name]?.(name, value as never)]))
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
export class Quota<N extends Names = Names> implements AsyncDisposable {
  /** By which the addon knows it. */
  readonly #number: number
  readonly #functions: readonly number[]
  /** The engine that this one was made of, which must last as long. */
  readonly #origin: Quota<N> | undefined

  private constructor (number: number, functions: readonly number[], origin?: Quota<N>) {
    this.#number = number
    this.#functions = functions
    this.#origin = origin
    forgotten.register(this, { number, functions }, this)
  }

  /** @internal */
  get number (): number {
    return this.#number
  }

  /**
   * Opens an engine on the store that a URL names, such as `'sqlite:quota.db'`, `'memory:'`, `'postgres://…'` or
   * `'redis://…'`, or on one of the host's own.
   *
   * Plans that are an object in TypeScript have the compiler know their names; so does a type argument.
   *
   * Rejects with `invalid_argument` for a URL or an option that cannot be, `plans_refused` or `no_plans` for plans that are
   * refused or missing, and `store_failed` for a store that cannot be opened.
   */
  static open<const P extends PlansSource>(
    store: string | URL | Store, options: QuotaOptions<NamesOf<P>> & { readonly plans: P },
  ): Promise<Quota<NamesOf<P>>>
  static open<N extends Names = Names>(
    store: string | URL | Store,
    options?: QuotaOptions<N> & { readonly plans?: Exclude<QuotaOptions<N>['plans'], PlansSource> },
  ): Promise<Quota<N>>
  static async open (store: string | URL | Store, options: QuotaOptions = {}): Promise<Quota> {
    const { options: written, functions } = writeOptions(store as string | Store, options)
    try {
      const opened = addon.open(home, JSON.stringify(written))
      return await begun(opened, number => new Quota(number as number, functions))
    } catch (error) {
      unregister(functions)
      throw error
    }
  }

  async #ask<T>(verb: string, asked: Fields, read: (value: never) => T, signal?: AbortSignal): Promise<T> {
    const text = JSON.stringify({ verb, ...asked })
    return await begun(addon.ask(home, this.#number, text), read as (value: unknown) => T, signal)
  }

  /** Asks what needs no store. */
  #askNow<T>(verb: string, asked: Fields = {}): T {
    return outcome(addon.ask(home, this.#number, JSON.stringify({ verb, ...asked })) as string) as T
  }

  async #admit (request: AdmitRequest, more: Fields, signal: AbortSignal | undefined): Promise<Decision> {
    return await this.#ask('admit', { ...writeRequest(request), ...more }, (told: WireTold) => readDecision(told), signal)
  }

  #try (request: AdmitRequest, more: Fields = {}): Decision | undefined {
    const told = this.#askNow<WireTold | null>('admit', { ...writeRequest(request), ...more, isTry: true })
    return told === null ? undefined : readDecision(told)
  }

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
  async admit (request: AdmitRequest<N>, options?: CallOptions): Promise<Decision> {
    const signal = signalOf(options)
    const decided = this.#inNumbers(request, MAY_ASK, signal)
    return decided === UNWRITTEN ? await this.#admit(request, {}, signal) : await decided as Decision
  }

  /** The same, where memory can tell; undefined where the store or the verifier is needed: nothing has been done then. */
  tryAdmit (request: AdmitRequest<N>): Decision | undefined {
    const decided = this.#inNumbers(request, 0)
    return decided === UNWRITTEN ? this.#try(request) : decided as Decision | undefined
  }

  /** A request that asks for costs and a rate only, which can be asked for in numbers. */
  #inNumbers (request: AdmitRequest, how: number, signal?: AbortSignal): ReturnType<typeof decide> {
    const { subject, token: given, costs = {}, rate, ...more } = plain('request', request, 'an object') as AdmitRequest
    for (const _ in more) return UNWRITTEN
    if (costs === null || (rate !== undefined && typeof rate !== 'string')) return UNWRITTEN
    if (typeof subject === 'string' && given === undefined) {
      return decide(this.#number, text('subject', subject), how, subject, costs, rate, signal)
    }
    if (typeof given === 'string' && subject === undefined) {
      return decide(this.#number, token(given), how | IS_TOKEN, null, costs, rate, signal)
    }
    return UNWRITTEN
  }

  /**
   * Whom a token speaks for; null for one that is malformed, unknown, revoked or expired.
   *
   * Rejects with `verify_failed` where the verifier cannot tell, and `invalid_argument` for an engine without one.
   */
  async authenticate (given: string, options?: CallOptions): Promise<Identity | null> {
    const signal = signalOf(options)
    return await authenticate(this.#number, token(given), signal)
  }

  /**
   * Charges every cost, or none where one does not fit. Under an idempotency key, once.
   *
   * ```js
   * const decision = await quota.consume('user-42', { searches: 1 }, { idempotencyKey: request.id })
   * ```
   *
   * Rejects as {@link admit} does.
   */
  async consume (subject: string, costs: Costs<N>, options?: ConsumeOptions): Promise<Decision> {
    const signal = options === undefined ? undefined : signalOf(options, ['signal', 'idempotencyKey'])
    const idempotencyKey = options?.idempotencyKey
    if (idempotencyKey !== undefined) return await this.#admit({ subject, costs, idempotencyKey }, {}, signal)
    const decided = decide(this.#number, text('subject', subject), MAY_ASK, subject, costs, undefined, signal)
    return decided === UNWRITTEN ? await this.#admit({ subject, costs }, {}, signal) : await decided as Decision
  }

  /** The same, where memory can tell; undefined where the store is needed: nothing has been charged then. */
  tryConsume (subject: string, costs: Costs<N>): Decision | undefined {
    const decided = decide(this.#number, text('subject', subject), 0, subject, costs)
    return decided === UNWRITTEN ? this.#try({ subject, costs }) : decided as Decision | undefined
  }

  /**
   * Whether it would be allowed now: costs, or everything that a request asks for. Consumes nothing, promises nothing.
   *
   * ```js
   * const { rates } = await quota.check({ rate: 'login', rateKey: { ip: request.ip } })
   * ```
   *
   * Rejects as {@link admit} does.
   */
  async check (subject: string, costs: Costs<N>, options?: CallOptions): Promise<Decision>
  async check (request: AdmitRequest<N>, options?: CallOptions): Promise<Decision>
  async check (who: string | AdmitRequest<N>, given?: Costs<N> | CallOptions, more?: CallOptions): Promise<Decision> {
    if (typeof who === 'object') return await this.#admit(who, { isLook: true }, signalOf(given as CallOptions))
    const [subject, costs, signal] = [who, given as Costs<N>, signalOf(more)]
    const decided = decide(this.#number, text('subject', subject), IS_LOOK | MAY_ASK, subject, costs, undefined, signal)
    return decided === UNWRITTEN ? await this.#admit({ subject, costs }, { isLook: true }, signal) : await decided as Decision
  }

  /** The same, where memory can tell; undefined where the store is needed. */
  tryCheck (subject: string, costs: Costs<N>): Decision | undefined {
    const decided = decide(this.#number, text('subject', subject), IS_LOOK, subject, costs)
    return decided === UNWRITTEN ? this.#try({ subject, costs }, { isLook: true }) : decided as Decision | undefined
  }

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
  async reserve (subject: string, costs: Costs<N>, options: ReserveOptions): Promise<Reservation<N>>
  async reserve (request: AdmitRequest<N>, options: ReserveOptions): Promise<Reservation<N>>
  async reserve (who: string | AdmitRequest<N>, costs: Costs<N> | ReserveOptions, more?: ReserveOptions): Promise<Reservation<N>> {
    const options = (typeof who === 'string' ? more : costs) as ReserveOptions
    const request: AdmitRequest = typeof who === 'string' ? { subject: who, costs: costs as Costs<N> } : who
    const signal = signalOf(plain('options', options, 'an object with ttlMs') as unknown as ReserveOptions, ['signal', 'idempotencyKey', 'ttlMs'])
    const { subject, token: given } = plain('request', request, 'an object') as AdmitRequest
    if (subject === undefined && given === undefined) {
      throw refusedValue('subject', subject, 'a subject or a token: units are set aside for somebody')
    }
    const { idempotencyKey = request.idempotencyKey } = options
    const asked = writeRequest(idempotencyKey === undefined ? request : { ...request, idempotencyKey })
    const read = (told: WireTold): Reservation<N> => new Reservation(this, told)
    return await this.#ask('admit', { ...asked, reserveMs: span('ttlMs', options.ttlMs) }, read, signal)
  }

  /** Commits a reservation by its id, in this process or another: see `Reservation.commit`. */
  async commit (reservation: string, actual: Costs<N> = {}, options?: CallOptions): Promise<Settlement> {
    const asked = { id: text('reservation', reservation), actual: writeCosts(actual) }
    return await this.#ask('commit', asked, readSettlement, signalOf(options))
  }

  /** Releases a reservation by its id: see `Reservation.release`. */
  async release (reservation: string, options?: CallOptions): Promise<Settlement> {
    return await this.#ask('release', { id: text('reservation', reservation) }, readSettlement, signalOf(options))
  }

  async #adjust (verb: string, subject: string, costs: Costs<N>, options: CallOptions | undefined): Promise<readonly QuotaState[]> {
    const asked = { subject: text('subject', subject), costs: writeCosts(costs) }
    return await this.#ask(verb, asked, (quotas: WireQuota[]) => readQuotas(quotas), signalOf(options))
  }

  /** Gives back what was consumed in the present periods, overage first and never below zero. */
  async refund (subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]> {
    return await this.#adjust('refund', subject, costs, options)
  }

  /** Lowers levels, such as storage, that never reset. */
  async giveBack (subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]> {
    return await this.#adjust('giveBack', subject, costs, options)
  }

  /** Grants units on top of the plan's limits, in the present periods only. */
  async grant (subject: string, costs: Costs<N>, options?: CallOptions): Promise<readonly QuotaState[]> {
    return await this.#adjust('grant', subject, costs, options)
  }

  /** Forgets what was used of a metric in the present periods. What is reserved stays so. */
  async resetUsage (subject: string, metric: N['metric'], options?: CallOptions): Promise<readonly QuotaState[]> {
    const asked = { subject: text('subject', subject), metric: text('metric', metric) }
    return await this.#ask('resetUsage', asked, (quotas: WireQuota[]) => readQuotas(quotas), signalOf(options))
  }

  /** Every quota of a subject, its plan and its state: what an account page shows. */
  async usage (subject: string, options?: CallOptions): Promise<Usage> {
    return await this.#ask('usage', { subject: text('subject', subject) }, (told: WireUsage) => readUsage(told), signalOf(options))
  }

  /** What a subject's plan has of a feature; null where it has nothing of it. */
  async feature (subject: string, name: N['feature'], options?: CallOptions): Promise<FeatureValue | null> {
    const asked = { subject: text('subject', subject), name: text('name', name) }
    return await this.#ask('feature', asked, (value: FeatureValue | null) => value, signalOf(options))
  }

  /**
   * Whether a subject's plan has a feature, or as much of it as `value`.
   *
   * ```js
   * await quota.require('user-42', 'max_history_days', 90)
   * ```
   */
  async require (subject: string, name: N['feature'], value?: FeatureValue, options?: CallOptions): Promise<Decision> {
    const feature = text('name', name)
    const features: AdmitRequest['features'] = value === undefined ? [feature] : [[feature, value]]
    return await this.#admit({ subject, features }, {}, signalOf(options))
  }

  /**
   * The limiter alone: counts `cost` on a scope's rate, for a key that need not be a subject.
   *
   * ```js
   * const attempt = await quota.rate('login', { ip: request.ip })
   * ```
   */
  async rate (scope: N['scope'], key: RateKey, cost = 1, options?: CallOptions): Promise<RateDecision> {
    const asked = { scope: text('scope', scope), key: writeRateKey('key', key), cost: whole('cost', cost) }
    const signal = signalOf(options)
    const paced = pace(this.#number, asked.scope, asked.key, asked.cost, signal)
    if (paced !== UNWRITTEN) return await paced
    return await this.#ask('rate', asked, (told: RateDecision) => readRateDecision(told), signal)
  }

  /**
   * Gives back units that {@link rate} has counted for a key, such as a login that went well where only failures are to
   * count. Never more than the whole allowance. Rejects with `invalid_argument` for a scope whose rate is shared.
   */
  async refundRate (scope: N['scope'], key: RateKey, units = 1, options?: CallOptions): Promise<RateDecision> {
    const asked = { scope: text('scope', scope), key: writeRateKey('key', key), units: whole('units', units) }
    return await this.#ask('refundRate', asked, (told: RateDecision) => readRateDecision(told), signalOf(options))
  }

  /** Gives a key its whole allowance back, in every scope, in this process. */
  async clearRates (key: RateKey, options?: CallOptions): Promise<void> {
    await this.#ask('clearRates', { key: writeRateKey('key', key) }, none, signalOf(options))
  }

  /** The plans that the public may see, by rank. */
  async plans (options?: CallOptions): Promise<readonly Plan[]> {
    return await this.#ask('plans', {}, (plans: WirePlan[]) => readPlanList(plans), signalOf(options))
  }

  /**
   * Puts plans into the store, in place of those it has and of the plans file. Resolves to their version. In force at once in
   * this process, elsewhere within `catalogTtlMs`. Rejects with `plans_refused`.
   */
  async setPlans (plans: string | URL | PlansSource | Plans, options?: CallOptions): Promise<number> {
    return await this.#ask('setPlans', { plans: writePlans('plans', plans) }, (version: number) => version, signalOf(options))
  }

  /** Has the next caller read the plans anew, from the store or the plans file. */
  clearCatalog (): void {
    this.#askNow('clearCatalog')
  }

  /** Where the plans in force came from, and whether the last refresh failed; null before the first. */
  get catalogStatus (): CatalogStatus | null {
    return readCatalogStatus(this.#askNow<WireCatalogStatus | null>('catalogStatus'))
  }

  /** The subscription of a subject as the store has it; null for a subject on the default plan. */
  async subscription (subject: string, options?: CallOptions): Promise<Subscription<N> | null> {
    const read = (told: WireSubscription | null): Subscription<N> | null => told === null ? null : readSubscription(told)
    return await this.#ask('subscription', { subject: text('subject', subject) }, read, signalOf(options))
  }

  /**
   * Gives a subject a subscription in place of any it had. In force at once in this process, elsewhere within a second.
   *
   * ```js
   * await quota.subscribe('user-42', 'pro', { expiresAt: new Date('2027-01-01') })
   * ```
   */
  async subscribe (subject: string, plan: N['plan'], given: SubscriptionFields<N> = {}, options?: CallOptions): Promise<void> {
    const asked = { subject: text('subject', subject), subscription: writeSubscription(plan, given) }
    await this.#ask('subscribe', asked, none, signalOf(options))
  }

  /** Ends a subject's subscription. What is paid for until `expiresAt` still grants. */
  async cancel (subject: string, options?: CallOptions): Promise<Subscription<N>> {
    const read = (told: WireSubscription): Subscription<N> => readSubscription(told)
    return await this.#ask('cancel', { subject: text('subject', subject) }, read, signalOf(options))
  }

  /** Gives a subject features and limits of its own, in place of all it had of its own before. */
  async setOverrides (subject: string, overrides: Overrides<N>, options?: CallOptions): Promise<Subscription<N>> {
    onlyKeys('overrides', plain('overrides', overrides, 'an object'), ['features', 'quotas'])
    const asked = { subject: text('subject', subject), overrides: writeOverrides(overrides) }
    return await this.#ask('setOverrides', asked, (told: WireSubscription) => readSubscription<N>(told), signalOf(options))
  }

  /** Switches enforcement, of everything or of one metric. At once in this process, within a second in others. */
  async setEnforcement (mode: Enforcement, options: CallOptions & { readonly metric?: N['metric'] } = {}): Promise<void> {
    const signal = signalOf(options, ['signal', 'metric'])
    const metric = options.metric === undefined ? {} : { metric: text('metric', options.metric) }
    await this.#ask('setEnforcement', { mode: word('mode', mode, ENFORCEMENTS), ...metric }, none, signal)
  }

  /** Subjects that have a subscription, in the order of their ids, in pages. */
  async subscribers (query: SubscriberQuery<N> = {}, options?: CallOptions): Promise<readonly Subscriber<N>[]> {
    const status = (name: string, value: unknown): Status => word(name, value, STATUSES)
    const asked = fields('query', query, { after: text, containing: text, plan: text, status, account: text, limit: whole })
    const read = (all: Parameters<typeof readSubscriber>[0][]): readonly Subscriber<N>[] => Object.freeze(all.map(one => readSubscriber<N>(one)))
    return await this.#ask('subscribers', { limit: PAGE, ...asked }, read, signalOf(options))
  }

  /** How many subjects are on each plan, by the state of their subscription. */
  async census (options?: CallOptions): Promise<readonly Census<N>[]> {
    return await this.#ask('census', {}, (all: Census<N>[]) => Object.freeze(all.map(one => Object.freeze(one))), signalOf(options))
  }

  /** Reads the store's log, in pages. With `changesOnly` it is the audit trail: who changed what, and when. */
  async events (query: EventQuery = {}, options?: CallOptions): Promise<readonly QuotaEvent[]> {
    const event = (name: string, value: unknown): EventName => word(name, value, EVENT_NAMES)
    const reads = { after: whole, subject: text, name: event, changesOnly: flag, newestFirst: flag, limit: whole }
    const read = (all: WireEvent[]): readonly QuotaEvent[] => Object.freeze(all.map(readEvent))
    return await this.#ask('events', { limit: PAGE, ...fields('query', query, reads) }, read, signalOf(options))
  }

  /** Has a token verified anew, because it was revoked: at once in this process, within a second in others. */
  async forgetToken (given: string, options?: CallOptions): Promise<void> {
    await this.#ask('forgetToken', { token: token(given) }, none, signalOf(options))
  }

  /** Has every token of a subject verified anew, and its subscription read anew. */
  async forgetSubject (subject: string, options?: CallOptions): Promise<void> {
    await this.#ask('forgetSubject', { subject: text('subject', subject) }, none, signalOf(options))
  }

  /** The same engine, for changes that `actor` makes: the audit trail then says so. */
  actingAs (actor: string): Quota<N> {
    return new Quota(this.#askNow<number>('actingAs', { actor: text('actor', actor) }), [], this.#origin ?? this)
  }

  /** A handle to a subject, for whoever asks about it often. The store is not asked yet. */
  subject (id: string): Subject<N> {
    return new Subject(this, this.#askNow<number>('subject', { id: text('id', id) }), id)
  }

  /** The time by the engine's clock. */
  get now (): Date {
    return date(this.#askNow<string>('now')) as Date
  }

  /** How many events were dropped because the listener or the log could not keep up. */
  get eventsDropped (): number {
    return this.#askNow('eventsDropped')
  }

  /** How the cache of tokens has done; null for an engine without a verifier. */
  get tokenStats (): TokenStats | null {
    const told = this.#askNow<{ hits: number, negative_hits: number, misses: number, evictions: number } | null>('tokenStats')
    if (told === null) return null
    const { hits, negative_hits: negativeHits, misses, evictions } = told
    return Object.freeze({ hits, negativeHits, misses, evictions })
  }

  /** Everything that there is to measure, as OpenMetrics text for Prometheus: see `METRICS_TYPE` of `quotum/http`. */
  metrics (): string {
    return this.#askNow('metrics')
  }

  /**
   * Charges and returns what is owed and leased, gives back what is reserved and not settled, and ends, with every handle
   * and every `actingAs` of it. Afterwards every verb rejects with `closed`.
   *
   * Rejects with `store_failed` where the store cannot answer: what was owed is lost then.
   */
  async close (): Promise<void> {
    try {
      await this.#ask('close', {}, none)
    } finally {
      unregister((this.#origin ?? this).#functions)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.close()
  }
}
