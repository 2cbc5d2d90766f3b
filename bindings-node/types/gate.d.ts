import type { Decision } from './decision.js';
import { QuotumError } from './errors.js';
import { type HeaderFields, type HttpAnswer, type MappingOptions } from './http.js';
import type { Names } from './names.js';
import type { Quota } from './quota.js';
import type { Reservation } from './reservation.js';
import type { Awaitable } from './store.js';
/** The engine, or the promise of one: what `Quota.open` returns. */
export type Engine<N extends Names = Names> = Quota<N> | Promise<Quota<N>>;
/** A function of a request. A method, for the compiler to take one of a narrower request too. */
type Of<R, T> = {
    of(request: R): T;
}['of'];
/** What can be chosen about the requests of a web framework. */
export interface GateOptions<R> extends MappingOptions {
    /**
     * Who asks: the id of a subject, or nothing where nobody is known. By default it is whomever the token of
     * `Authorization: Bearer` or of `X-API-Key` speaks for, as the engine's verifier says.
     */
    readonly subject?: Of<R, Awaitable<string | null | undefined>>;
    /** Which requests pass without being asked about. */
    readonly skip?: Of<R, Awaitable<boolean>>;
    /** How many proxies of one's own stand before this server; 0 by default. */
    readonly trustedHops?: number;
    /** Is told of what keeps the engine from deciding, in place of a warning of the process. */
    readonly onError?: (error: QuotumError, request: R) => unknown;
}
/** A request that was let in: by which decision, and with what set aside for it. */
export interface Admission {
    /** The decision. */
    readonly decision: Decision;
    /** What was set aside; null where nothing was. */
    readonly reservation: Reservation | null;
}
/** What is sent in place of what was asked for. */
export interface Answer {
    /** The status. */
    readonly status: number;
    /** Header fields, but for the content type: names in lower case, and values. */
    readonly fields: HttpAnswer['fields'];
    /** What the body is. */
    readonly contentType: string;
    /** A problem document, in JSON. */
    readonly body: string;
    /** The denial; null where an error kept the engine from deciding. */
    readonly decision: Decision | null;
    /** That error; null where the request is denied. */
    readonly error: QuotumError | null;
}
/** What becomes of a request: it is let in, answered, or, where it is skipped, neither. */
export interface Outcome {
    /** How it was let in; null where it was not, or was skipped. */
    readonly admission: Admission | null;
    /** Header fields that tell the client of every limit. */
    readonly fields: HttpAnswer['fields'];
    /** What is sent in its place; null where it is let in or skipped. */
    readonly answer: Answer | null;
}
/** What the gate reads of a request. */
export interface Head {
    /** Its header fields. */
    readonly headers: HeaderFields;
    /** The address of the other end of the connection, where it has one. */
    readonly peer: string | undefined;
}
/** How a request was let in. Throws where nothing was asked for it. */
export declare function admissionOf(request: object): Admission;
export {};
