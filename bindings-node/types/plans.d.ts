import type { FeatureValue, PlansSource } from './names.js';
/** One plan: what a subject on it may do, and how it is shown and sold. */
export interface Plan {
    /** The name by which subscriptions refer to it. */
    readonly id: string;
    /** The name shown to people; the id where the file gives none. */
    readonly name: string;
    /** The name in other languages, by language tag. */
    readonly names: Readonly<Record<string, string>>;
    /** A sentence for the price list. */
    readonly description: string | null;
    /** Its place in lists and in upgrade suggestions, cheapest first. */
    readonly rank: number;
    /** Whether the public listing and upgrade suggestions show it. */
    readonly visible: boolean;
    /** Which edition of the plan this is, for whoever keeps several. */
    readonly version: number;
    /** How many days a trial of it lasts; 0 where there is none. */
    readonly trialDays: number;
    /** How many days after its end a subscription still grants; the file's own setting where null. */
    readonly graceDays: number | null;
    /** What it costs, by billing interval, such as `{ monthly: 'BRL 297.00' }`. */
    readonly prices: Readonly<Record<string, string>>;
    /** Its Stripe price ids, by billing interval. */
    readonly stripePrices: Readonly<Record<string, string>>;
    /** What it can do, by name. */
    readonly features: Readonly<Record<string, FeatureValue>>;
    /** How much it may use, by metric, such as `{ searches: ['5/day', '50/month'] }`. */
    readonly quotas: Readonly<Record<string, readonly string[]>>;
    /** How much each member of an account on this plan may use of what the account has, by metric. */
    readonly memberQuotas: Readonly<Record<string, readonly string[]>>;
    /** How many times over each of its rates holds. */
    readonly rateMultiplier: number;
}
/** Where the plans in force came from, and whether the last refresh failed. */
export interface CatalogStatus {
    /** `'store'`, where `setPlans` put them or the host keeps them, or `'file'`. */
    readonly origin: 'store' | 'file';
    /** Their version in the store; 0 for plans from a file. */
    readonly version: number;
    /** When they were last found to be current. */
    readonly loadedAt: Date;
    /** Why the last refresh failed, if it did: the plans in force are older than they should be. */
    readonly lastError: string | null;
}
/** All plans of a plans file, checked and ready to decide by. */
export declare class Plans {
    #private;
    /** All plans by rank, hidden ones too. */
    readonly plans: readonly Plan[];
    /** The plan of a subject that has no subscription. */
    readonly defaultPlan: Plan;
    private constructor();
    /** Reads a plans file, TOML or JSON by its ending. Rejects with every problem's line and key. */
    static read(path: string): Promise<Plans>;
    /** Takes plans from a text in TOML. Throws `plans_refused`. */
    static fromToml(toml: string): Plans;
    /** Takes plans from a text in JSON. Throws `plans_refused`. */
    static fromJson(json: string): Plans;
    /** Takes plans from an object of the plans file's schema. Throws `plans_refused`. */
    static from(plans: PlansSource): Plans;
    /** The plan of this id. Throws `unknown_name`, which lists the plans there are. */
    get(id: string): Plan;
    /** The plans file, as JSON, that reads back as these plans. */
    toJson(): string;
}
