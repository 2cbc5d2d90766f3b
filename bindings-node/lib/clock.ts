// A clock that stands still until it is told to move.

import { instant, span } from './argument.js'
import { addon, home } from './addon.js'

const forgotten = new FinalizationRegistry<number>(clock => { addon.dropClock(home, clock) })

/**
 * A clock for tests: it stands still until it is told to move.
 *
 * ```js
 * const clock = new ManualClock(new Date('2026-03-31T23:59:00Z'))
 * const quota = await Quota.open('memory:', { plans: 'plans.toml', clock })
 * clock.advance(60_000)
 * ```
 */
export class ManualClock {
  readonly #clock: number

  /** A clock that shows this time. */
  constructor (now: Date) {
    this.#clock = addon.makeClock(home, instant('now', now))
    forgotten.register(this, this.#clock)
  }

  /** What the clock shows. */
  get now (): Date {
    return new Date(addon.clockNow(home, this.#clock))
  }

  /** Lets time pass, in milliseconds. */
  advance (ms: number): void {
    addon.advance(home, this.#clock, span('ms', ms))
  }

  /** Sets the clock, forwards or back, as an operator would: no time passes. */
  setWall (now: Date): void {
    addon.setWall(home, this.#clock, instant('now', now))
  }

  /** @internal */
  static numberOf (clock: ManualClock): number {
    return clock.#clock
  }
}
