import type { FastifyPluginAsync, FastifyRequest } from 'fastify';
import { type Admission, type Answer, type Engine, type GateOptions } from './gate.js';
import type { Names } from './names.js';
import { type Rule } from './rule.js';
export { admissionOf } from './gate.js';
export type { Admission, Answer, Engine } from './gate.js';
export { byAddress } from './rule.js';
export type { Client } from './rule.js';
/** What every request to a route asks for. */
export type FastifyRule<N extends Names = Names> = Rule<FastifyRequest, N>;
declare module 'fastify' {
    interface FastifyContextConfig {
        /** What is asked for requests to this route, besides what is asked for all; `false` for nothing at all. */
        quotum?: FastifyRule | readonly FastifyRule[] | false;
    }
    interface FastifyRequest {
        /** How the request was let in; null where nothing was asked for it. */
        quotum: Admission | null;
    }
}
declare const HOOKS: readonly ['onRequest', 'preParsing', 'preValidation', 'preHandler'];
/** What can be chosen, besides what the gate knows. */
export interface FastifyQuotasOptions extends GateOptions<FastifyRequest> {
    /** The engine, or the promise of one. */
    readonly quota: Engine;
    /** When requests are asked about; `'onRequest'` by default. */
    readonly hook?: (typeof HOOKS)[number];
    /** What is asked for every route whose `config.quotum` is not `false`, before what that asks. */
    readonly default?: FastifyRule | readonly FastifyRule[];
    /** Which requests pass without being asked about: by a function, or by the addresses that they come from. */
    readonly allowList?: readonly string[] | Skip;
    /**
     * What is thrown in place of the problem document, for the error handler to answer with, where a request is denied or
     * could not be decided. The status and the header fields have been set.
     */
    readonly errorResponseBuilder?: (request: FastifyRequest, answer: Answer) => object;
}
type Skip = GateOptions<FastifyRequest>['skip'];
/**
 * The plugin: asks an engine for the requests to every route, what `default` and the route's `config` say.
 *
 * ```js
 * await app.register(fastifyQuotas, { quota, subject: request => request.user?.id, default: { rate: 'api' } })
 *
 * app.get('/search', { config: { quotum: { costs: { searches: 1 } } } }, search)
 * app.post('/login', { config: { quotum: { rate: 'login', rateKey: byAddress } } }, login)
 * app.get('/health', { config: { quotum: false } }, health)
 * app.post('/chat', { config: { quotum: { costs: { tokens: 2_000 }, reserveMs: 600_000 } } }, async request => {
 *   const { reservation } = request.quotum
 *   // … answer, and before its end:
 *   await reservation.commit({ tokens })
 * })
 * ```
 *
 * One rule asks the engine once, for all that it names. It asks for routes of the app that registers it and of the plugins
 * that this registers afterwards.
 */
export declare const fastifyQuotas: FastifyPluginAsync<FastifyQuotasOptions>;
