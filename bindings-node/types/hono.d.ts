import type { Context, MiddlewareHandler } from 'hono';
import { type Admission, type Answer, type Engine, type GateOptions } from './gate.js';
import type { Names } from './names.js';
import { Verbs, type Rule } from './rule.js';
import type { Awaitable } from './store.js';
export { admissionOf } from './gate.js';
export type { Admission, Answer, Engine } from './gate.js';
export { byAddress } from './rule.js';
export type { Client, Rule } from './rule.js';
/** A middleware. Later handlers find how the request was let in by `c.get('quotum')`. */
export type HonoHandler = MiddlewareHandler<{
    /** What it leaves for later handlers. */
    Variables: {
        /** How the request was let in. */
        quotum: Admission;
    };
}>;
/** What can be chosen, besides what the gate knows. */
export interface HonoOptions extends GateOptions<Context> {
    /**
     * The address of the other end of the connection, such as `c => getConnInfo(c).remote.address`, with the `getConnInfo` of
     * one's runtime. On `@hono/node-server` it is found without.
     */
    readonly peer?: (context: Context) => string | undefined;
    /** Answers in place of this module, where a request is denied or could not be decided. Header fields are added to it. */
    readonly onDenied?: (context: Context, answer: Answer) => Awaitable<Response>;
}
/**
 * Makes middlewares that ask an engine.
 *
 * ```js
 * const quotas = honoQuotas(quota, { subject: c => c.get('user')?.id, trustedHops: 1 })
 *
 * app.get('/search', quotas.admit({ rate: 'api', costs: { searches: 1 } }), c => c.json(c.get('quotum').decision.quotas))
 * app.post('/login', quotas.rate('login', byAddress), login)
 * app.get('/me', quotas.usage())
 * ```
 *
 * One middleware asks the engine once, for all that it names. `quota` may be the promise that `Quota.open` returns.
 */
export declare function honoQuotas<N extends Names = Names>(quota: Engine<N>, options?: HonoOptions): HonoQuotas<N>;
/** See {@link honoQuotas}. */
export declare class HonoQuotas<N extends Names = Names> extends Verbs<Context, N, HonoHandler> {
    #private;
    /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
    admit(rule: Rule<Context, N>): HonoHandler;
    /** A handler that answers with the plan and all the usage of whoever asks, as JSON: an account page. */
    usage(): (context: Context) => Promise<Response>;
    /** A handler that answers with the plans that there are, cheapest first, as JSON: a price list. */
    plans(): (context: Context) => Promise<Response>;
}
