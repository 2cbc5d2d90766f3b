/**
 * A clock for tests: it stands still until it is told to move.
 *
 * ```js
 * const clock = new ManualClock(new Date('2026-03-31T23:59:00Z'))
 * const quota = await Quota.open('memory:', { plans: 'plans.toml', clock })
 * clock.advance(60_000)
 * ```
 */
export declare class ManualClock {
    #private;
    /** A clock that shows this time. */
    constructor(now: Date);
    /** What the clock shows. */
    get now(): Date;
    /** Lets time pass, in milliseconds. */
    advance(ms: number): void;
    /** Sets the clock, forwards or back, as an operator would: no time passes. */
    setWall(now: Date): void;
}
