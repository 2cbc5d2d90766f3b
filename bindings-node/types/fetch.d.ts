import { type Admission, type Answer, type Engine, type GateOptions, type Head, type Outcome } from './gate.js';
import type { Names } from './names.js';
import { Verbs, type Rule } from './rule.js';
import type { Awaitable } from './store.js';
export { admissionOf } from './gate.js';
export type { Admission, Answer, Engine } from './gate.js';
export { byAddress } from './rule.js';
export type { Client, Rule } from './rule.js';
/** A handler of requests. What follows the request is the server's. */
export type FetchHandler<R extends Request = Request, More extends unknown[] = []> = (request: R, ...more: More) => Awaitable<Response>;
/** Puts what a rule asks before a handler. */
export type FetchRule = <R extends Request, More extends unknown[]>(handler: FetchHandler<R, More>) => (request: R, ...more: More) => Promise<Response>;
/** What can be chosen, besides what the gate knows. */
export interface FetchOptions extends GateOptions<Request> {
    /**
     * The address of the other end of the connection, which a `Request` does not have: of what a handler is given, such as
     * `(request, server) => server.requestIP(request)?.address` on Bun.
     */
    readonly peer?: {
        of(request: Request, ...more: never[]): string | undefined;
    }['of'];
    /** Answers in place of this module, where a request is denied or could not be decided. Header fields are added to it. */
    readonly onDenied?: (request: Request, answer: Answer) => Awaitable<Response>;
}
/** The head of a request. */
export declare function headOf({ headers }: Request, peer: string | undefined): Head;
/** The answer, in place of what was asked for. */
export declare function refusal({ status, contentType, body }: Answer): Response;
/** Tells the client of its limits. It is the same response where its header fields can be changed. */
export declare function told(response: Response, { fields, answer }: Outcome): Response;
/** Gives back what was reserved for a response, once its last part was read, it has failed, or nobody waits for it. */
export declare function lettingGo(response: Response, { reservation }: Admission, signal: AbortSignal | undefined): Response;
/**
 * Puts what rules ask before handlers of requests.
 *
 * ```js
 * const quotas = fetchQuotas(quota, { subject: async request => (await sessionOf(request))?.userId, trustedHops: 1 })
 *
 * // A route handler of Next
 * export const GET = quotas.admit({ rate: 'api', costs: { searches: 1 } })(async request => {
 *   const { decision } = admissionOf(request)
 *   return Response.json(await found(decision.subject))
 * })
 * ```
 *
 * One rule asks the engine once, for all that it names. `quota` may be the promise that `Quota.open` returns.
 */
export declare function fetchQuotas<N extends Names = Names>(quota: Engine<N>, options?: FetchOptions): FetchQuotas<N>;
/** See {@link fetchQuotas}. */
export declare class FetchQuotas<N extends Names = Names> extends Verbs<Request, N, FetchRule> {
    #private;
    /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
    admit(rule: Rule<Request, N>): FetchRule;
    /** A handler that answers with the plan and all the usage of whoever asks, as JSON: an account page. */
    usage(): FetchHandler;
    /** A handler that answers with the plans that there are, cheapest first, as JSON: a price list. */
    plans(): FetchHandler;
}
