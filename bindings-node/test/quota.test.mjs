// The built addon, called as a backend would.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'

import { Quota } from '../index.js'

const PLANS = `
default_plan = "free"
[plans.free]
quotas = { searches = "3/day", tokens = "100/day" }
[plans.pro]
rank = 1
quotas = { searches = "50/day", tokens = "1000/day" }
`

let folder, plans, quota

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'quotum-'))
  plans = join(folder, 'plans.toml')
  writeFileSync(plans, PLANS)
  quota = Quota.open(`sqlite:${folder}/quota.db`, { plans })
})

afterEach(() => rmSync(folder, { recursive: true }))

test('the limit passes and no more', async () => {
  for (let n = 0; n < 3; n++) {
    assert.deepEqual({ ...await quota.consume('user-42', { searches: 1, tokens: 30 }) }, { allowed: true, plan: 'free' })
  }
  const denied = await quota.consume('user-42', { searches: 1 })
  assert.deepEqual({ ...denied }, { allowed: false, plan: 'free', reason: 'quota_exhausted', upgradeTo: 'pro' })
  assert.throws(() => { denied.allowed = true }, TypeError)
})

test('concurrent calls share the limit', async () => {
  const decisions = await Promise.all(Array.from({ length: 300 }, () => quota.consume('user-7', { tokens: 1 })))
  assert.equal(decisions.filter(decision => decision.allowed).length, 100)
})

test('one version covers the crate, the wheel and the addon', () => {
  const read = path => readFileSync(new URL(path, import.meta.url), 'utf8')
  const [, workspace] = /^version = "(.*)"$/m.exec(read('../../Cargo.toml'))
  assert.equal(JSON.parse(read('../package.json')).version, workspace)
})

test('mistakes are errors that name them', async () => {
  await assert.rejects(quota.consume('user-42', { serches: 1 }), /unknown metric "serches"; the plans know: searches, tokens/)
  for (const amount of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) {
    await assert.rejects(quota.consume('user-42', { searches: amount }), /from 1 to 9007199254740991/, String(amount))
  }
  writeFileSync(plans, "default_plan = 'gold'")
  assert.throws(() => Quota.open('memory:', { plans }), /plans.toml:1: plans: found nothing/)
})
