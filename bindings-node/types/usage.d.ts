import { type QuotaState, type Reason } from './decision.js';
import type { FeatureValue } from './names.js';
import type { Status } from './subscription.js';
/** What an account page shows: every quota of a subject, its plan and its state. */
export interface Usage {
    /** Whose usage. */
    readonly subject: string;
    /** The id of the plan in force, or of the plan that has lapsed. */
    readonly plan: string;
    /** The plan's name for people. */
    readonly planName: string;
    /** Which edition of the plan. */
    readonly planVersion: number;
    /** The subscription's state; null for a subject without one. */
    readonly status: Status | null;
    /** The account that the subject is a member of, whose plan it has. */
    readonly account: string | null;
    /** Why nothing is granted now, if nothing is. */
    readonly refused: Reason | null;
    /** When the trial ends. */
    readonly trialEndsAt: Date | null;
    /** When what was paid for ends. */
    readonly expiresAt: Date | null;
    /** What the plan can do, by name, with what the subject has of its own in place of it. */
    readonly features: Readonly<Record<string, FeatureValue>>;
    /** Every quota of the plan, by metric. */
    readonly quotas: readonly QuotaState[];
}
