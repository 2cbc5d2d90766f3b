import { type Decision } from './decision.js';
import type { Costs, Names } from './names.js';
/** How a call goes. */
export interface CallOptions {
    /** Lets go of the call: it rejects with the signal's reason. What was begun is done whole or not at all. */
    readonly signal?: AbortSignal;
}
/** How a reservation was settled. */
export interface Settlement {
    /** When. */
    readonly at: Date;
    /** Whether it had been settled before; nothing was changed then. */
    readonly repeated: boolean;
    /** How many units of each metric were consumed, overage included. */
    readonly consumed: Readonly<Record<string, number>>;
    /** How many of them did not fit into the tightest of the metric's limits. */
    readonly overage: Readonly<Record<string, number>>;
}
/**
 * Units set aside for one request, or the denial.
 *
 * With `await using`, or at the latest when nothing refers to it any more, what was not committed is given back.
 */
export declare class Reservation<N extends Names = Names> implements AsyncDisposable {
    #private;
    /** The decision. */
    readonly decision: Decision;
    /** Whether the request may go on. */
    readonly allowed: boolean;
    /** The name by which it can be settled elsewhere; null where nothing is held. */
    readonly id: string | null;
    /** When its units are given back, unless it is settled before; null where nothing is held. */
    readonly expiresAt: Date | null;
    /**
     * Charges what was really used, and gives the rest back. What is not named was used as it was reserved. What is above the
     * reservation is taken too, as overage where it does not fit.
     *
     * Rejects with `hold_expired` where it is too late, `denied` where nothing was reserved, and `store_failed`. Committing
     * again gives the same settlement.
     */
    commit(actual?: Costs<N>, options?: CallOptions): Promise<Settlement>;
    /** Gives everything back. Rejects as {@link commit} does. */
    release(options?: CallOptions): Promise<Settlement>;
    /**
     * Leaves the units held, for whoever settles them by their id, or until they expire. Returns the id; null where nothing is
     * held any more.
     */
    detach(): string | null;
    /** Gives back what is not settled, without waiting for it. Units that cannot be given back now expire. */
    letGo(): void;
    /** Gives back what was not settled. What went wrong in the block matters more than whether that worked. */
    [Symbol.asyncDispose](): Promise<void>;
}
