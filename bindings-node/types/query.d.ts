import type { EventName } from './event.js';
import type { Names } from './names.js';
import type { Status } from './subscription.js';
/** Which subscribers are listed, in the order of their ids, in pages. */
export interface SubscriberQuery<N extends Names = Names> {
    /** The last subject of the page before. */
    readonly after?: string;
    /** A part of the subject's id. */
    readonly containing?: string;
    /** The plan that they are on. */
    readonly plan?: N['plan'];
    /** The state of their subscription. */
    readonly status?: Status;
    /** The account that they are members of. */
    readonly account?: string;
    /** How many there are on a page; 100 by default. */
    readonly limit?: number;
}
/** Which events are read from the store's log, in pages. */
export interface EventQuery {
    /** Only events after the one of this sequence: the last of the page before. Also where the newest comes first. */
    readonly after?: number;
    /** To whom they happened. */
    readonly subject?: string;
    /** What happened. */
    readonly name?: EventName;
    /** Whether only changes are read: it is the audit trail then. */
    readonly changesOnly?: boolean;
    /** Whether the last event comes first. */
    readonly newestFirst?: boolean;
    /** How many there are on a page; 100 by default. */
    readonly limit?: number;
}
