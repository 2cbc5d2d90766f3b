/** Allowed, or denied and why. */
export interface Decision {
  /** Whether the request may go on. */
  readonly allowed: boolean
  /** The id of the plan that decided. */
  readonly plan: string
  /** Why the request is denied, such as `quota_exhausted`. */
  readonly reason?: string
  /** The cheapest plan by rank that would have allowed the request. */
  readonly upgradeTo?: string
}

/** The engine: asks a store, decides by the plans. */
export class Quota {
  private constructor (engine: never)
  /** Opens the store that a URL names, such as `sqlite:quota.db` or `memory:`, with a plans file. */
  static open (url: string, options: { plans: string }): Quota
  /** Charges every cost, such as `{ searches: 1 }`, or none. Never blocks the event loop. */
  consume (subject: string, costs: Record<string, number>): Promise<Decision>
}
