import { type Decision, type Reason } from './decision.js';
/**
 * Which header fields are sent: `RateLimit` and `RateLimit-Policy` of the IETF's draft, the `X-RateLimit-` fields that most
 * services send, both, or neither.
 */
export type Fields = 'standard' | 'legacy' | 'both' | 'none';
/** How decisions become responses, where that is not as usual. */
export interface MappingOptions {
    /**
     * Statuses from 400 to 599 by reason, such as `{ quota_exhausted: 402 }`. As usual: 429 for quotas and rates, 403 for
     * features, trials and inactive subscriptions, 401 for a token, and 503 for the store.
     */
    readonly statuses?: Readonly<Partial<Record<Reason, number>>>;
    /** Which header fields are sent; `'standard'` by default. */
    readonly fields?: Fields;
}
/** What to tell the client. */
export interface HttpAnswer {
    /** Header fields: names in lower case, and values. */
    readonly fields: readonly (readonly [name: string, value: string])[];
    /** What is told in place of what was asked for, where it is denied; null where it is allowed. */
    readonly denied: {
        readonly status: number;
        /** What the body is: `application/problem+json`. */
        readonly contentType: string;
        /** A problem document. */
        readonly body: string;
    } | null;
}
/** How decisions become responses: a status for each reason, and which header fields are sent. */
export declare class Mapping {
    #private;
    constructor(options?: MappingOptions);
    /** What to tell the client about a decision that was made `now`. */
    answer(decision: Decision, now?: Date): HttpAnswer;
    /**
     * What to tell the client where an error kept the engine from deciding. It is never to be let pass. An error that is not
     * this library's is the backend's own: it is thrown again.
     */
    answerError(error: unknown, now?: Date): HttpAnswer;
}
/** What `Quota.metrics` is, as a content type. */
export declare const METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/** Header fields of a request, as Node's `IncomingMessage` has them. */
export type HeaderFields = Readonly<Record<string, string | readonly string[] | undefined>>;
/** The token of `Authorization: Bearer`, or else of `X-API-Key`; undefined without one. */
export declare function tokenOf(headers: HeaderFields): string | undefined;
/**
 * The address that a request comes from, behind so many trusted proxies, by `X-Forwarded-For`. Undefined where the peer has
 * none, such as the other end of a Unix socket.
 */
export declare function clientAddress(trustedHops: number, peer: string | undefined, headers: HeaderFields): string | undefined;
