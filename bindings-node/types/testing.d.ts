import { type Awaitable, type Store } from './store.js';
export { ManualClock } from './clock.js';
export type { Awaitable, Store, Transaction } from './store.js';
/**
 * Runs the conformance suite: every rule that a store keeps, each on a new and empty one that `factory` returns. Resolves to
 * the names of the rules, and rejects with an error that tells every one that is broken.
 *
 * ```js
 * import { checkStore } from 'quotum/testing'
 *
 * test('my store is a store', () => checkStore(() => new MyStore()))
 * ```
 */
export declare function checkStore(factory: () => Awaitable<Store>): Promise<readonly string[]>;
