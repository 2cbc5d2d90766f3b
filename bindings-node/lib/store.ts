// Stores of one's own: an ordered map of bytes with transactions.

import { refused } from './argument.js'
import { ConflictedError } from './errors.js'
import { addon, home } from './addon.js'
import { register, words, type HostFunction } from './functions.js'

/** A value, or the promise of one. */
export type Awaitable<T> = T | PromiseLike<T>

/**
 * A transaction: it has read what was so, and writes what comes to be, at one moment.
 *
 * All that a step reads it reads before it writes, and it writes each key once, in the order of the keys. Keys have less than
 * 4 KiB, most values a few hundred bytes. Each method may be `async`.
 */
export interface Transaction {
  /** The value of a key; undefined or null where it has none. */
  get(key: Uint8Array): Awaitable<Uint8Array | null | undefined>
  /** The first entries, at most `limit`, from `start` on and before `end`, in the order of their keys' bytes. */
  scan(start: Uint8Array, end: Uint8Array, limit: number): Awaitable<Iterable<readonly [Uint8Array, Uint8Array]>>
  /** Gives a key this value, in place of any it had. */
  put(key: Uint8Array, value: Uint8Array): unknown
  /** Removes a key, if it is there. */
  delete(key: Uint8Array): unknown
  /** Makes what was written last. */
  commit(): unknown
  /** Undoes what was written. */
  rollback(): unknown
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
  begin(): Awaitable<Transaction>
}

/** @internal */
export function isStore (value: unknown): value is Store {
  return typeof value === 'object' && value !== null && typeof (value as Partial<Store>).begin === 'function'
}

type Bytes = Uint8Array

function bytes (method: string, value: unknown): Bytes {
  if (!(value instanceof Uint8Array)) throw refused('store', `no Uint8Array from \`${method}\``, 'a Uint8Array')
  return value
}

/** Numbers a store, whose methods the addon then calls. @internal */
export function registerStore (store: Store): number {
  const open = new Map<number, Transaction>()
  let last = 0
  const done = (call: number): void => { addon.answerJson(home, call, 'null') }

  const methods: Record<string, (call: number, transaction: number, ...args: never[]) => Promise<void>> = {
    async begin (call) {
      if (retired !== undefined) throw new Error('the engine was closed')
      const begun = await store.begin()
      open.set(++last, begun)
      addon.answerJson(home, call, String(last))
    },
    async get (call, transaction, key: Bytes) {
      const value = await of(transaction).get(key)
      addon.answerBytes(home, call, value === null || value === undefined ? null : bytes('get', value))
    },
    async scan (call, transaction, start: Bytes, end: Bytes, limit: number) {
      const entries: Bytes[] = []
      for (const [key, value] of await of(transaction).scan(start, end, limit)) {
        if (entries.length === 2 * limit) throw refused('store', `more than ${limit} entries from \`scan\``, 'at most that many')
        entries.push(bytes('scan', key), bytes('scan', value))
      }
      addon.answerEntries(home, call, entries)
    },
    async put (call, transaction, key: Bytes, value: Bytes) {
      await of(transaction).put(key, value)
      done(call)
    },
    async delete (call, transaction, key: Bytes) {
      await of(transaction).delete(key)
      done(call)
    },
    async commit (call, transaction) {
      await take(transaction).commit()
      done(call)
    },
    async rollback (call, transaction) {
      await take(transaction).rollback()
      done(call)
    },
  }

  // Of an engine that was closed, what is open can still be ended.
  let retired: (() => void) | undefined
  const ended = (): void => { if (open.size === 0) retired?.() }

  function of (transaction: number): Transaction {
    const found = open.get(transaction)
    if (found === undefined) throw new Error('this transaction has ended')
    return found
  }

  function take (transaction: number): Transaction {
    const taken = of(transaction)
    open.delete(transaction)
    ended()
    return taken
  }

  const hosted: HostFunction = (call, method, transaction, ...args) => {
    const asked = methods[method as string]?.(call, transaction as number, ...args as never[])
    asked?.catch((error: unknown) => {
      addon.answerFailed(home, call, words(error), error instanceof ConflictedError)
    })
  }
  hosted.retire = forget => {
    retired = forget
    return open.size === 0
  }
  return register(hosted)
}
