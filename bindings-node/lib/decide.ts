// Decisions in memory, asked for in numbers, as `src/decide.rs` reads them: it saves most of what a call of the addon costs.

import { plain, units } from './argument.js'
import {
  readDecision, readIdentity, readRateDecision,
  type Decision, type Identity, type RateDecision, type WireIdentity, type WireTold,
} from './decision.js'
import { addon, home, numbers } from './addon.js'
import { outcome, pending } from './tasks.js'
import { numberOfName, readKnown, readNumbers, readPaced } from './numbers.js'
import type { RateKey } from './request.js'

/** How a decision is asked for. */
export const IS_TOKEN = 1
export const IS_HANDLE = 2
export const IS_LOOK = 4
export const MAY_ASK = 8
const HAS_SCOPE = 16

/** What is told, as the first of the numbers says. */
const UNKNOWN = 0
const DECIDED = 1
const OUTCOME = 2
const DENIED = 4

/** How many costs are asked for in numbers; more are written out. */
const COSTS_MAX = 64

/** Writes costs, for the next call: how many there are. Undefined where they must be written out. */
function writeCosts (costs: Readonly<Record<string, unknown>>): number | undefined {
  // All are read before any is written: a getter may ask for a decision of its own.
  const metrics = Object.keys(plain('costs', costs, 'an object of units by metric'))
  const values = metrics.map(metric => units(metric, costs[metric]))
  if (metrics.length > COSTS_MAX) return undefined
  let place = 0
  for (let at = 0; at < metrics.length; at++) {
    const metric = numberOfName(metrics[at] as string)
    if (metric === undefined) return undefined
    numbers[place++] = metric
    numbers[place++] = values[at] as number
  }
  return metrics.length
}

/** What cannot be asked in numbers. */
export const UNWRITTEN = Symbol('unwritten')

const readTold = (told: unknown): Decision => readDecision(told as WireTold)

/**
 * Asks for a decision about costs and, where there is a scope, a rate. It is by a subject, by whomever a token speaks for,
 * or by the number of a handle. Undefined where memory cannot tell and the store may not be asked.
 */
export function decide (
  engine: number,
  who: string | number,
  how: number,
  subject: string | null,
  costs: Readonly<Record<string, unknown>>,
  scope?: string,
  signal?: AbortSignal,
): Decision | Promise<Decision> | undefined | typeof UNWRITTEN {
  const count = writeCosts(costs)
  if (count === undefined) return UNWRITTEN
  let scopeNumber: number | undefined = 0
  if (scope !== undefined) {
    scopeNumber = numberOfName(scope)
    if (scopeNumber === undefined) return UNWRITTEN
    how |= HAS_SCOPE
  }
  const told = addon.decide(home, engine, who, how, scopeNumber, count)
  switch (numbers[0]) {
    case UNKNOWN:
      return undefined
    case DECIDED:
      return readNumbers(subject ?? told as string ?? null)
    case DENIED:
      return readNumbers(subject, told as string)
    case OUTCOME:
      return readTold(outcome(told as string))
    default:
      return pending(told as number, readTold, signal)
  }
}

/** Whom a token speaks for. */
export function authenticate (engine: number, token: string, signal?: AbortSignal): Identity | null | Promise<Identity | null> {
  const told = addon.authenticate(home, engine, token)
  switch (numbers[0]) {
    case DECIDED:
      return readKnown(told as string, 1)
    case OUTCOME:
      return readFound(outcome(told as string))
    default:
      return pending(told as number, readFound, signal)
  }
}

/** What the limiter alone decides for a key. */
export function pace (
  engine: number, scope: string, key: RateKey, cost: number, signal?: AbortSignal,
): RateDecision | Promise<RateDecision> | typeof UNWRITTEN {
  const scopeNumber = numberOfName(scope)
  if (scopeNumber === undefined) return UNWRITTEN
  numbers[0] = cost
  const told = typeof key === 'string'
    ? addon.pace(home, engine, scopeNumber, key, 0)
    : addon.pace(home, engine, scopeNumber, key.ip, 1)
  switch (numbers[0]) {
    case DECIDED:
      return readPaced(scope)
    case OUTCOME:
      return readLimited(outcome(told as string))
    default:
      return pending(told as number, readLimited, signal)
  }
}

const readLimited = (told: unknown): RateDecision => readRateDecision(told as RateDecision)

function readFound (found: unknown): Identity | null {
  return found === null ? null : readIdentity(found as WireIdentity)
}
