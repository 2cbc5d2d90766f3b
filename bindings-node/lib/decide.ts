// Decisions in memory, asked for and told in numbers, in the layout that `src/decide.rs` has too. It saves most of what a
// call of the addon costs.

import { units } from './argument.js'
import { readDecision, readIdentity, type Decision, type Denial, type Identity, type Period, type QuotaState, type RateState, type Reason, type WireIdentity, type WireTold } from './decision.js'
import { addon, home, numbers, outcome, pending } from './native.js'

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

/** Numbers by name, and names by number. The addon has as many at the most as it says. */
const numberOf = new Map<string, number>()
const nameOf: string[] = []

function number (name: string): number | undefined {
  const known = numberOf.get(name)
  if (known !== undefined) return known
  const given = name.isWellFormed() ? addon.numberOf(home, name) : null
  if (given === null) return undefined
  numberOf.set(name, given)
  return given
}

function name (number: number): string {
  const known = nameOf[number]
  if (known !== undefined) return known
  const given = addon.nameOf(home, number) ?? ''
  nameOf[number] = given
  return given
}

/** Writes costs, for the next call: how many there are. Undefined where they must be written out. */
function writeCosts (costs: Readonly<Record<string, unknown>>): number | undefined {
  // All are read before any is written: a getter may ask for a decision of its own.
  const metrics = Object.keys(costs)
  const values = metrics.map(metric => units(metric, costs[metric]))
  if (metrics.length > COSTS_MAX) return undefined
  let place = 0
  for (let at = 0; at < metrics.length; at++) {
    const metric = number(metrics[at] as string)
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
    scopeNumber = number(scope)
    if (scopeNumber === undefined) return UNWRITTEN
    how |= HAS_SCOPE
  }
  const told = addon.decide(home, engine, who, how, scopeNumber, count)
  switch (numbers[0]) {
    case UNKNOWN:
      return undefined
    case DECIDED:
      return readNumbers(subject ?? told as string)
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
  if (numbers[0] === OUTCOME) return readFound(outcome(told as string))
  return pending(told as number, readFound, signal)
}

function readFound (found: unknown): Identity | null {
  return found === null ? null : readIdentity(found as WireIdentity)
}

const NO_RATES: readonly RateState[] = Object.freeze([])

/** Reads the decision that was told, and what a denial says in a sentence. */
function readNumbers (subject: string | null, message?: string): Decision {
  const bits = numbers[3] as number
  const quotas: QuotaState[] = []
  let place = 7
  for (let left = numbers[5] as number; left > 0; left--, place += 13) quotas.push(readQuota(place))
  const rates = numbers[6] as number
  const denied = message === undefined ? null : readDenial(place + 7 * rates, message)
  const decision: Decision = {
    allowed: denied === null,
    subject,
    plan: named(1),
    planVersion: some(2),
    quotas: Object.freeze(quotas),
    rates: rates === 0 ? NO_RATES : readRates(place, rates),
    identity: (bits & 4) === 0 ? null : readKnown(subject as string),
    denied,
    wouldDeny: null,
    reason: denied === null ? null : denied.reason,
    upgradeTo: denied === null ? null : denied.upgradeTo,
    degraded: (bits & 1) !== 0,
    repeated: (bits & 2) !== 0,
  }
  return Object.freeze(decision)
}

function readKnown (subject: string): Identity {
  return Object.freeze({ subject, expiresAt: date(4), attributes: Object.freeze({}) })
}

function readDenial (place: number, message: string): Denial {
  return Object.freeze({
    reason: name(numbers[place] as number) as Reason,
    message,
    metric: named(place + 1),
    period: named(place + 2) as Period | null,
    requested: some(place + 3),
    limit: some(place + 4),
    used: some(place + 5),
    resetsAt: date(place + 6),
    scope: named(place + 7),
    windowS: some(place + 8),
    retryAfterMs: some(place + 9),
    feature: null,
    featureRequested: null,
    featureGranted: null,
    endedAt: date(place + 10),
    cause: null,
    upgradeTo: named(place + 11),
  })
}

function readQuota (place: number): QuotaState {
  const bits = numbers[place + 12] as number
  return Object.freeze({
    metric: name(numbers[place] as number),
    period: named(place + 1) as Period | null,
    limit: some(place + 2),
    used: numbers[place + 3] as number,
    held: numbers[place + 4] as number,
    leased: numbers[place + 5] as number,
    stranded: numbers[place + 6] as number,
    bonus: numbers[place + 7] as number,
    overage: numbers[place + 8] as number,
    remaining: some(place + 9),
    resetsAt: date(place + 10),
    percent: some(place + 11),
    warning: (bits & 1) !== 0,
    shared: (bits & 2) !== 0,
  })
}

function readRates (place: number, count: number): readonly RateState[] {
  const rates: RateState[] = []
  for (; rates.length < count; place += 7) {
    rates.push(Object.freeze({
      scope: name(numbers[place] as number),
      limit: name(numbers[place + 1] as number),
      units: numbers[place + 2] as number,
      burst: numbers[place + 3] as number,
      windowS: numbers[place + 4] as number,
      remaining: numbers[place + 5] as number,
      resetAfterMs: numbers[place + 6] as number,
    }))
  }
  return Object.freeze(rates)
}

/** A name; null for none. */
function named (place: number): string | null {
  const number = numbers[place] as number
  return number < 0 ? null : name(number)
}

/** A number; null for none. */
function some (place: number): number | null {
  const number = numbers[place] as number
  return number < 0 ? null : number
}

/** A time; null for none. */
function date (place: number): Date | null {
  const ms = numbers[place] as number
  return Number.isNaN(ms) ? null : new Date(ms)
}
