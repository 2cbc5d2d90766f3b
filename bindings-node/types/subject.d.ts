import { type Decision } from './decision.js';
import type { Costs, FeatureValue, Names } from './names.js';
import { type AdmitRequest } from './request.js';
import { type CallOptions } from './reservation.js';
/** How something is charged. */
export interface ConsumeOptions extends CallOptions {
    /** Under which it is charged once, however often it is asked. */
    readonly idempotencyKey?: string;
}
/**
 * A subject that is asked about often. What it is asked is decided as for its id, only faster, because what is known of the
 * subject need not be looked up.
 */
export declare class Subject<N extends Names = Names> {
    #private;
    /** Whose handle it is. */
    readonly id: string;
    /** Decides on everything that one request asks for: see `Quota.admit`. */
    admit(request: Omit<AdmitRequest<N>, 'subject' | 'token'>, options?: CallOptions): Promise<Decision>;
    /** Charges every cost, or none where one does not fit: see `Quota.consume`. */
    consume(costs: Costs<N>, options?: ConsumeOptions): Promise<Decision>;
    /** The same, where memory can tell; undefined where the store is needed: see `Quota.tryConsume`. */
    tryConsume(costs: Costs<N>): Decision | undefined;
    /** Whether it would be allowed now: see `Quota.check`. */
    check(costs: Costs<N>, options?: CallOptions): Promise<Decision>;
    /** The same, where memory can tell; undefined where the store is needed: see `Quota.tryCheck`. */
    tryCheck(costs: Costs<N>): Decision | undefined;
    /** Whether the subject's plan has a feature, or as much of it as `value`: see `Quota.require`. */
    require(name: N['feature'], value?: FeatureValue, options?: CallOptions): Promise<Decision>;
}
