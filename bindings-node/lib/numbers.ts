// Decisions as they are told in numbers, in the layout that `src/numbers.rs` has too: names by the numbers that both sides
// know, and everything else as it is.

import type { Decision, Denial, Identity, Period, QuotaState, RateDecision, RateState, Reason } from './decision.js'
import { addon, home, numbers } from './addon.js'

/** Numbers by name, and names by number. The addon has as many at the most as it says. */
const numberOf = new Map<string, number>()
const nameOf: string[] = []

/** The number of a name; undefined where it must be written out. */
export function numberOfName (name: string): number | undefined {
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

const NO_RATES: readonly RateState[] = Object.freeze([])

/** Reads the decision that was told, and what a denial says in a sentence. */
export function readNumbers (subject: string | null, message?: string): Decision {
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
    identity: (bits & 4) === 0 ? null : readKnown(subject as string, 4),
    denied,
    wouldDeny: null,
    reason: denied === null ? null : denied.reason,
    upgradeTo: denied === null ? null : denied.upgradeTo,
    degraded: (bits & 1) !== 0,
    repeated: (bits & 2) !== 0,
  }
  return Object.freeze(decision)
}

export function readKnown (subject: string, expires: number): Identity {
  return Object.freeze({ subject, expiresAt: date(expires), attributes: Object.freeze({}) })
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
    rates.push(readWindow(name(numbers[place] as number), place + 1))
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

/** Reads what the limiter alone has decided. */
export function readPaced (scope: string): RateDecision {
  const bits = numbers[1] as number
  const windows: RateState[] = []
  for (let place = 4; windows.length < (numbers[3] as number); place += 6) windows.push(readWindow(scope, place))
  return Object.freeze({
    allowed: (bits & 1) !== 0,
    neverFits: (bits & 2) !== 0,
    retryAfterMs: some(2),
    windows: Object.freeze(windows),
  })
}

function readWindow (scope: string, place: number): RateState {
  return Object.freeze({
    scope,
    limit: name(numbers[place] as number),
    units: numbers[place + 1] as number,
    burst: numbers[place + 2] as number,
    windowS: numbers[place + 3] as number,
    remaining: numbers[place + 4] as number,
    resetAfterMs: numbers[place + 5] as number,
  })
}
