// The shared vectors, as core/tests/vectors/README.md says: scripts of calls and what they must answer.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { ManualClock, Quota, QuotumError } from 'quotum'

import { root } from './root.mjs'

/** Every vector, with what it takes from its file, and its file's name. */
export function allVectors () {
  const folder = new URL('core/tests/vectors/', root)
  return readdirSync(folder).filter(name => name.endsWith('.json')).sort().flatMap(file => {
    const { about: _, vectors, ...shared } = JSON.parse(readFileSync(new URL(file, folder), 'utf8'))
    return vectors.map(vector => ({ ...shared, ...vector, file }))
  })
}

export const verbsOf = vector => new Set(vector.steps.flatMap(step => Object.keys(step)))

/** A step that did not answer as expected. */
export class Mismatch extends Error {}

/** What a vector's steps act on: engines of one store, a clock, a verifier that can be told to refuse. */
class Bench {
  engines = new Map()
  reservations = new Map()
  revoked = new Set()

  constructor (url, vector, plans) {
    Object.assign(this, { url, vector, plans })
    this.clock = new ManualClock(new Date(vector.now ?? '2026-03-10T15:00:00Z'))
  }

  verify = token => {
    if (token === 'key-of-nobody') throw new Error('the directory is down')
    if (this.revoked.has(token) || !token.startsWith('key-of-')) return null
    const [subject, until] = token.slice('key-of-'.length).split('@')
    return { subject, expiresAt: until === undefined ? null : new Date(until) }
  }

  async engine (name) {
    if (!this.engines.has(name)) {
      const { idempotency_ttl_s: ttl, enforcement } = this.vector.settings ?? {}
      this.engines.set(name, await Quota.open(this.url, {
        plans: this.plans,
        clock: this.clock,
        verifier: this.verify,
        idempotencyTtlMs: ttl === undefined ? undefined : ttl * 1_000,
        enforcement,
      }))
    }
    return this.engines.get(name)
  }

  async restart () {
    for (const kept of this.reservations.values()) {
      kept.reservation?.detach()
      kept.reservation = null
    }
    for (const engine of this.engines.values()) await engine.close()
    this.engines.clear()
  }
}

const MAPS = new Set(['features', 'quotas', 'member_quotas', 'names', 'prices', 'stripe_prices', 'attributes', 'consumed', 'overage', 'detail'])

const LEFT_OUT = new Set(['rates', 'names', 'prices', 'stripe_prices'])

const snake = name => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** An answer as the core's JSON says it. */
export function told (answer) {
  if (answer instanceof Date) return answer.toISOString().replace('.000Z', 'Z')
  if (Array.isArray(answer)) return answer.map(told)
  if (typeof answer !== 'object' || answer === null) return answer ?? null
  const fields = Object.entries(answer).map(([name, value]) => {
    const isMap = MAPS.has(snake(name)) && !Array.isArray(value)
    return [snake(name), isMap ? value : told(value)]
  })
  // The core's JSON leaves these out where there is nothing in them.
  const isLeftOut = (name, value) => LEFT_OUT.has(name) && Object.keys(value).length === 0
  const object = Object.fromEntries(fields.filter(([name, value]) => !isLeftOut(name, value)))
  if ('percent' in object) object.limit ??= 'unlimited'
  if ('since' in object) object.overrides = { features: object.features, quotas: object.quotas }
  return object
}

const sorted = (object = {}) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)))

const plansOf = given => (typeof given === 'string' ? new URL(`examples/plans/${given}.toml`, root).pathname : given)

const camel = name => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
const camelled = object => Object.fromEntries(Object.entries(object).map(([name, value]) => [camel(name), value]))

/** What the verbs are called with; the others take one argument. */
const CALLS = {
  admit: (quota, given) => quota.admit(requestOf(given)),
  check: (quota, { subject, costs }) => quota.check(subject, sorted(costs)),
  consume: (quota, { subject, costs, idempotency_key: idempotencyKey }) => quota.consume(subject, sorted(costs), { idempotencyKey }),
  require: (quota, { subject, name }) => quota.require(subject, name),
  require_value: (quota, { subject, name, value }) => quota.require(subject, name, value),
  refund: (quota, { subject, costs }) => quota.refund(subject, sorted(costs)),
  give_back: (quota, { subject, costs }) => quota.giveBack(subject, sorted(costs)),
  grant: (quota, { subject, costs }) => quota.grant(subject, sorted(costs)),
  reset_usage: (quota, { subject, metric }) => quota.resetUsage(subject, metric),
  feature: (quota, { subject, name }) => quota.feature(subject, name),
  rate: (quota, { scope, key, cost }) => quota.rate(scope, key, cost),
  refund_rate: (quota, { scope, key, units }) => quota.refundRate(scope, key, units),
  plans: quota => quota.plans(),
  census: quota => quota.census(),
  catalog_status: quota => quota.catalogStatus,
  set_plans: (quota, given) => quota.setPlans(plansOf(given)),
  subscribe,
  set_overrides: (quota, { subject, ...overrides }) => quota.setOverrides(subject, overrides),
  set_enforcement: (quota, { mode, metric }) => quota.setEnforcement(mode, { metric }),
  subscribers: (quota, query) => quota.subscribers(query),
  events: (quota, query) => quota.events(camelled(query)),
}
for (const verb of ['clear_rates', 'authenticate', 'forget_token', 'forget_subject', 'usage', 'subscription', 'cancel']) {
  CALLS[verb] = (quota, given) => quota[camel(verb)](given)
}

function requestOf ({ subject, token, rate, features, costs, idempotency_key: idempotencyKey }) {
  const paced = typeof rate === 'object' ? { rate: rate.scope, rateKey: rate.key, rateCost: rate.cost } : { rate }
  const all = { subject, token, features, costs: sorted(costs), idempotencyKey, ...paced }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

function subscribe (quota, { subject, plan, overrides = {}, ...given }) {
  const fields = camelled(given)
  for (const name of ['since', 'trialEndsAt', 'expiresAt', 'anchor']) {
    if (fields[name]) fields[name] = new Date(fields[name])
  }
  return quota.subscribe(subject, plan, { ...fields, ...overrides })
}

async function reserve (bench, quota, engine, { subject, costs, ttl_ms: ttlMs, idempotency_key: idempotencyKey }, step) {
  const reservation = await quota.reserve(subject, sorted(costs), { ttlMs, idempotencyKey })
  const answer = told(reservation.decision)
  if (!reservation.allowed) return answer
  if ('as' in step) bench.reservations.set(step.as, { engine, reservation, id: reservation.id })
  else reservation.detach()
  return { ...answer, expires_at: told(reservation.expiresAt) }
}

async function settle (bench, quota, engine, verb, { reservation: name, actual }) {
  const kept = bench.reservations.get(name)
  const args = verb === 'commit' ? [sorted(actual)] : []
  if (kept?.reservation && kept.engine === engine) {
    const { reservation } = kept
    kept.reservation = null
    return await reservation[verb](...args)
  }
  return await quota[verb](kept === undefined ? name : kept.id, ...args)
}

/** Makes a step; its answer as JSON says it. */
async function call (bench, verb, given, step) {
  switch (verb) {
    case 'advance_s': return bench.clock.advance(given * 1_000)
    case 'advance_ms': return bench.clock.advance(given)
    case 'set_wall': return bench.clock.setWall(new Date(given))
    case 'restart': return await bench.restart()
    case 'revoke': return void bench.revoked.add(given)
  }
  const name = step.engine ?? 'a'
  let quota = await bench.engine(name)
  if ('by' in step) quota = quota.actingAs(step.by)
  if (verb === 'reserve') return await reserve(bench, quota, name, given, step)
  if (verb === 'commit' || verb === 'release') return told(await settle(bench, quota, name, verb, given))
  const known = CALLS[verb]
  if (known === undefined) throw new Error(`unknown verb ${verb}`)
  return told(await known(quota, given))
}

const KINDS = { unknown_name: 'unknown', plans_refused: 'plans', store_failed: 'store', verify_failed: 'verify' }

/** An error as the vectors know it. */
function errorTold (error) {
  const { kind: what, name, known } = error.unknown ?? {}
  // Of time spans, JavaScript's names have the unit.
  const argument = error.argument && snake(error.argument).replace(/^ttl_ms$/, 'ttl')
  return { kind: KINDS[error.code] ?? error.code, message: error.message, argument, what, name, known }
}

function matches (expected, found) {
  if (Array.isArray(expected)) {
    return Array.isArray(found) && expected.length === found.length && expected.every((one, at) => matches(one, found[at]))
  }
  if (typeof expected === 'object' && expected !== null) {
    const isObject = typeof found === 'object' && found !== null && !Array.isArray(found)
    return isObject && Object.entries(expected).every(([key, value]) => matches(value, found[key]))
  }
  return expected === (found ?? null)
}

function errorMatches ({ message_contains: said = [], ...expected }, found) {
  return matches(expected, found) && [said].flat().every(text => found.message.includes(text))
}

/** What JavaScript refuses before the library sees it names the argument as JavaScript has it. */
function expectedOf ({ expect_error: expected, ...step }) {
  return JSON.stringify(step).includes(String(2 ** 53)) ? { kind: expected.kind, message_contains: String(2 ** 53) } : expected
}

const BESIDE = new Set(['expect', 'expect_error', 'engine', 'by', 'as', 'times'])

async function runStep (bench, step) {
  const [verb] = Object.keys(step).filter(key => !BESIDE.has(key))
  let answer
  try {
    answer = await call(bench, verb, step[verb], step)
  } catch (error) {
    if (!(error instanceof QuotumError)) throw error
    const found = errorTold(error)
    if ('expect_error' in step && errorMatches(expectedOf(step), found)) return
    throw new Mismatch(`${verb}: expected ${JSON.stringify(step.expect_error ?? step.expect)}, found ${JSON.stringify(found)}`)
  }
  const found = JSON.stringify(answer)
  if ('expect_error' in step) throw new Mismatch(`${verb}: expected ${JSON.stringify(step.expect_error)}, found ${found}`)
  if (!('expect' in step)) {
    if (answer?.allowed === false) throw new Mismatch(`${verb}: expected no denial, found ${found}`)
  } else if (!matches(step.expect, answer)) {
    throw new Mismatch(`${verb}: expected ${JSON.stringify(step.expect)}, found ${found}`)
  }
}

/** Runs a vector to its end, or to the first step that does not answer as expected. */
export async function run (vector, url, folder) {
  assert.ok(vector.steps.length > 0)
  let plans = plansOf(vector.plans)
  if (typeof plans === 'object') {
    const path = join(folder, 'plans.json')
    writeFileSync(path, JSON.stringify(plans))
    plans = path
  }
  const bench = new Bench(url, vector, plans)
  try {
    for (const [at, step] of vector.steps.entries()) {
      for (let time = 0; time < (step.times ?? 1); time++) {
        await runStep(bench, step).catch(error => {
          if (error instanceof Mismatch) error.message = `${vector.name}, step ${at + 1}: ${error.message}`
          throw error
        })
      }
    }
  } finally {
    await bench.restart()
  }
}
