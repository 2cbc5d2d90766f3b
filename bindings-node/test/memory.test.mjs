// Memory stays flat over ten million calls of every kind.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

test('ten million calls leave nothing behind', () => {
  const program = fileURLToPath(new URL('./memory.mjs', import.meta.url))
  const env = { ...process.env }
  delete env.NODE_TEST_CONTEXT
  const said = execFileSync(process.execPath, ['--expose-gc', program], { encoding: 'utf8', env })
  const { before, after, heard } = JSON.parse(said)
  console.log(`memory after 2 million calls ${before.toFixed(1)} MiB, after 10 million ${after.toFixed(1)} MiB; ${heard} events heard`)
  assert.ok(heard > 0)
  assert.ok(after - before < 8, `it grew from ${before} to ${after} MiB`)
})
