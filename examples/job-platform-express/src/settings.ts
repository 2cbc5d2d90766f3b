// Settings: what the environment says.

import { fileURLToPath } from 'node:url'

export interface Settings {
  /** Where it counts. */
  readonly quotumUrl: string
  /** The folder of its users, jobs and files. */
  readonly data: string
  /** A plans file. */
  readonly plans: string
  /** How many proxies of its own stand before it. */
  readonly trustedHops: number
  /** The administrator's token; without one there is no administrator. */
  readonly adminToken: string | undefined
  /** How long a request waits for the store. */
  readonly storeTimeoutMs: number
  /** Where it listens. */
  readonly listen: string
}

export function settingsOf (environment: NodeJS.ProcessEnv): Settings {
  return {
    quotumUrl: environment['QUOTUM_URL'] ?? 'sqlite:job-platform.db',
    data: environment['DATA'] ?? 'data',
    plans: environment['PLANS'] ?? fileURLToPath(new URL('../../plans/job-platform.toml', import.meta.url)),
    trustedHops: Number(environment['TRUSTED_HOPS'] ?? '0'),
    // An empty one would let everybody in.
    adminToken: environment['ADMIN_TOKEN'] || undefined,
    storeTimeoutMs: Number(environment['STORE_TIMEOUT_MS'] ?? '5000'),
    listen: environment['LISTEN'] ?? '127.0.0.1:3000',
  }
}
