// What is set for a deployment, in its environment.

import { fileURLToPath } from 'node:url'

/** How a deployment differs from others. Times are in milliseconds. */
export interface Settings {
  /** Where it counts: an SQLite file, `postgres://…` or `redis://…`. */
  readonly quotumUrl: string
  readonly plans: string
  /** Whose each key is. A real backend would ask its own table. */
  readonly keys: ReadonlyMap<string, string>
  /** How long an answer may take. */
  readonly answerMsMax: number
  /** How long the model thinks about each word. */
  readonly modelPauseMs: number
  /** How long a request waits for the store. */
  readonly storeTimeoutMs: number
}

/** What is not set is as it says here. */
export function settingsOf (environment: NodeJS.ProcessEnv): Settings {
  const ms = (name: string, otherwise: number): number => {
    const found = Number(environment[name] ?? otherwise)
    if (!Number.isSafeInteger(found) || found < 0) throw new Error(`${name} must be whole milliseconds`)
    return found
  }
  const keys = (environment['CHAT_KEYS'] ?? '').split(',').filter(Boolean).map((pair): [string, string] => {
    const [key = '', ...user] = pair.split('=')
    return [key, user.join('=')]
  })
  return {
    quotumUrl: environment['QUOTUM_URL'] ?? 'sqlite:chat.db',
    plans: environment['PLANS'] ?? fileURLToPath(new URL('../../plans/chat.toml', import.meta.url)),
    keys: new Map(keys),
    answerMsMax: ms('ANSWER_MS_MAX', 600_000),
    modelPauseMs: ms('MODEL_PAUSE_MS', 0),
    storeTimeoutMs: ms('STORE_TIMEOUT_MS', 5_000),
  }
}
