// Node gives the same answers as Rust to the same calls.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { allVectors, Mismatch, run, verbsOf } from './vectors.mjs'

const all = allVectors()
// Engines cannot share a memory store here, and no store can be made to fail.
const onSqlite = all.filter(vector => !verbsOf(vector).has('store'))
const inMemory = onSqlite.filter(vector => !['engine', 'restart'].some(verb => verbsOf(vector).has(verb)))

async function inFolder (act) {
  const folder = mkdtempSync(join(tmpdir(), 'quotum-vectors-'))
  try {
    await act(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

for (const vector of onSqlite) {
  test(`on SQLite: ${vector.file}: ${vector.name}`, async () => await inFolder(folder => run(vector, `sqlite:${folder}/quota.db`, folder)))
}

for (const vector of inMemory) {
  test(`in memory: ${vector.file}: ${vector.name}`, async () => await inFolder(folder => run(vector, 'memory:', folder)))
}

test('few vectors are left out', () => {
  assert.ok(all.length > 200, String(all.length))
  assert.ok(all.length - onSqlite.length < all.length / 8)
  assert.ok(inMemory.length > all.length / 2)
})

test('a vector that is not met is found', async () => {
  const vector = {
    name: 'wrong',
    plans: { default_plan: 'free', plans: { free: { quotas: { jobs: '1/day' } } } },
    steps: [{ consume: { subject: 'ana', costs: { jobs: 1 } }, expect: { allowed: false } }],
  }
  await assert.rejects(inFolder(folder => run(vector, 'memory:', folder)), error => {
    assert.ok(error instanceof Mismatch)
    assert.match(error.message, /wrong, step 1: consume/)
    return true
  })
})
