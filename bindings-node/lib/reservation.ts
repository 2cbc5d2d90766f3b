// Reservations: units set aside for one request, whose cost is known later.

import { onlyKeys, plain, unaborted } from './argument.js'
import { date, readDecision, type Decision, type WireTold } from './decision.js'
import { DeniedError, QuotumError } from './errors.js'
import type { Costs, Names } from './names.js'
import { addon, home } from './addon.js'
import { begun, outcome } from './tasks.js'
import { writeCosts } from './request.js'

/** How a call goes. */
export interface CallOptions {
  /** Lets go of the call: it rejects with the signal's reason. What was begun is done whole or not at all. */
  readonly signal?: AbortSignal
}

/** Checks a call's options: its signal, if it has one. @internal */
export function signalOf (options: CallOptions | undefined, known: readonly string[] = ['signal']): AbortSignal | undefined {
  if (options === undefined) return undefined
  onlyKeys('options', plain('options', options, 'an object'), known)
  return unaborted(options.signal)
}

/** How a reservation was settled. */
export interface Settlement {
  /** When. */
  readonly at: Date
  /** Whether it had been settled before; nothing was changed then. */
  readonly repeated: boolean
  /** How many units of each metric were consumed, overage included. */
  readonly consumed: Readonly<Record<string, number>>
  /** How many of them did not fit into the tightest of the metric's limits. */
  readonly overage: Readonly<Record<string, number>>
}

interface WireSettlement { at: string, repeated: boolean, consumed: Record<string, number>, overage: Record<string, number> }

/** @internal */
export function readSettlement (wire: WireSettlement): Settlement {
  return Object.freeze({
    at: date(wire.at) as Date,
    repeated: wire.repeated,
    consumed: Object.freeze(wire.consumed),
    overage: Object.freeze(wire.overage),
  })
}

const forgotten = new FinalizationRegistry<number>(reservation => { addon.dropReservation(home, reservation) })

/**
 * Units set aside for one request, or the denial.
 *
 * With `await using`, or at the latest when nothing refers to it any more, what was not committed is given back.
 */
export class Reservation<N extends Names = Names> implements AsyncDisposable {
  /** The decision. */
  readonly decision: Decision
  /** Whether the request may go on. */
  readonly allowed: boolean
  /** The name by which it can be settled elsewhere; null where nothing is held. */
  readonly id: string | null
  /** When its units are given back, unless it is settled before; null where nothing is held. */
  readonly expiresAt: Date | null
  /** Keeps the engine as long as this, and settles by it. */
  readonly #engine: { readonly number: number }
  /** By which the addon knows it, until it is first to be settled; afterwards it is settled by its id. */
  #open: number | null
  /** Whether nothing is left to be given back. */
  #isOver: boolean
  /** The last attempt to settle it, however that ends. */
  #settling: Promise<unknown> = Promise.resolve()

  /** @internal */
  constructor (engine: { readonly number: number }, told: WireTold) {
    const held = told.reservation
    this.decision = readDecision(told)
    this.allowed = this.decision.allowed
    this.id = held?.id ?? null
    this.expiresAt = date(held?.expiresAt)
    this.#engine = engine
    this.#open = held?.number ?? null
    this.#isOver = held === undefined
    if (this.#open !== null) forgotten.register(this, this.#open, this)
  }

  /** Takes what is open: it is settled now, or by its name. */
  #take (): number | null {
    const open = this.#open
    this.#open = null
    forgotten.unregister(this)
    return open
  }

  async #settle (ask: Record<string, unknown>, signal: AbortSignal | undefined): Promise<Settlement> {
    if (!this.allowed) throw new DeniedError(this.decision)
    const text = JSON.stringify({ ...ask, number: this.#take(), id: this.id })
    const asked = addon.ask(home, this.#engine.number, text)
    const settled = begun(asked, told => readSettlement(told as WireSettlement), signal)
    this.#settling = settled.then(() => { this.#isOver = true }, () => {})
    return await settled
  }

  /**
   * Charges what was really used, and gives the rest back. What is not named was used as it was reserved. What is above the
   * reservation is taken too, as overage where it does not fit.
   *
   * Rejects with `hold_expired` where it is too late, `denied` where nothing was reserved, and `store_failed`. Committing
   * again gives the same settlement.
   */
  async commit (actual: Costs<N> = {}, options?: CallOptions): Promise<Settlement> {
    return await this.#settle({ verb: 'commit', actual: writeCosts(actual) }, signalOf(options))
  }

  /** Gives everything back. Rejects as {@link commit} does. */
  async release (options?: CallOptions): Promise<Settlement> {
    return await this.#settle({ verb: 'release' }, signalOf(options))
  }

  /**
   * Leaves the units held, for whoever settles them by their id, or until they expire. Returns the id; null where nothing is
   * held any more.
   */
  detach (): string | null {
    const open = this.#take()
    this.#isOver = true
    if (open === null) return null
    const text = JSON.stringify({ verb: 'detach', number: open })
    return outcome(addon.ask(home, this.#engine.number, text) as string) as string | null
  }

  /** Gives back what is not settled, without waiting for it. Units that cannot be given back now expire. */
  letGo (): void {
    void this[Symbol.asyncDispose]()
  }

  /** Gives back what was not settled. What went wrong in the block matters more than whether that worked. */
  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#settling
    if (this.#isOver) return
    try {
      await this.release()
    } catch (error) {
      if (!(error instanceof QuotumError)) throw error
    }
  }
}
