/** A value, or the promise of one. */
export type Awaitable<T> = T | PromiseLike<T>;
/**
 * A transaction: it has read what was so, and writes what comes to be, at one moment.
 *
 * All that a step reads it reads before it writes, and it writes each key once, in the order of the keys. Keys have less than
 * 4 KiB, most values a few hundred bytes. Each method may be `async`.
 */
export interface Transaction {
    /** The value of a key; undefined or null where it has none. */
    get(key: Uint8Array): Awaitable<Uint8Array | null | undefined>;
    /** The first entries, at most `limit`, from `start` on and before `end`, in the order of their keys' bytes. */
    scan(start: Uint8Array, end: Uint8Array, limit: number): Awaitable<Iterable<readonly [Uint8Array, Uint8Array]>>;
    /** Gives a key this value, in place of any it had. */
    put(key: Uint8Array, value: Uint8Array): unknown;
    /** Removes a key, if it is there. */
    delete(key: Uint8Array): unknown;
    /** Makes what was written last. */
    commit(): unknown;
    /** Undoes what was written. */
    rollback(): unknown;
}
/**
 * An ordered map of bytes with transactions, such as a database that a backend has already. The engine keeps counters, holds,
 * leases and idempotency keys in it. `checkStore` of `quotum/testing` says whether it does what it must.
 */
export interface Store {
    /**
     * Begins a transaction. It is serializable against all others, those of other processes too. Where another was faster, or
     * waiting for it took too long, it or any of the transaction's methods throws a `ConflictedError`, and the step is made
     * again. Anything else that is thrown is a store that failed: requests are then answered as the plans say for that.
     */
    begin(): Awaitable<Transaction>;
}
