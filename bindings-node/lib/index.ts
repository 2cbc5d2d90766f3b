/**
 * Embedded quota enforcement: *may this caller do this now, and what is left?*
 *
 * @packageDocumentation
 */

export { ManualClock } from './clock.js'
export { quotaOf } from './decision.js'
export type { Decision, Denial, Identity, Period, QuotaState, RateDecision, RateState, Reason } from './decision.js'
export { ConflictedError, DeniedError, QuotumError, throwIfDenied } from './errors.js'
export type { ErrorCode, Retry, UnknownName } from './errors.js'
export type { EventName, QuotaEvent } from './event.js'
export type { Costs, FeatureValue, Limits, Names, NamesOf, PlanSource, PlansSource, RateSource } from './names.js'
export type { Enforcement, IdentitySource, Listener, QuotaOptions } from './options.js'
export { Plans } from './plans.js'
export type { CatalogStatus, Plan } from './plans.js'
export type { EventQuery, SubscriberQuery } from './query.js'
export { Quota } from './quota.js'
export type { ReserveOptions, TokenStats } from './quota.js'
export type { AdmitRequest, FeaturesAsked, RateKey } from './request.js'
export type { CallOptions, Reservation, Settlement } from './reservation.js'
export type { Awaitable, Store, Transaction } from './store.js'
export type { ConsumeOptions, Subject } from './subject.js'
export type { Census, Overrides, Status, Subscriber, Subscription, SubscriptionFields, SubscriptionSource } from './subscription.js'
export type { Usage } from './usage.js'
