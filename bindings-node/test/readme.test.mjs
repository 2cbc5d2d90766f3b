// The README's lines do what they say, pasted one after the other into an empty folder.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'

import { root } from './root.mjs'

const require = createRequire(import.meta.url)
const readme = readFileSync(new URL('bindings-node/README.md', root), 'utf8')
const blocks = language => [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, text]) => text)

let folder
before(() => {
  // Beside the package, so that it is found.
  folder = mkdtempSync(join(import.meta.dirname ?? dirname(new URL(import.meta.url).pathname), 'readme-'))
  writeFileSync(join(folder, 'plans.toml'), blocks('toml')[0])
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true })
  symlinkSync(dirname(require.resolve('quotum/package.json')), join(folder, 'node_modules', 'quotum'))
  symlinkSync(dirname(require.resolve('@types/node/package.json')), join(folder, 'node_modules', '@types', 'node'))
})
after(() => rmSync(folder, { recursive: true }))

/** What a program prints. */
function said (file, text) {
  writeFileSync(join(folder, file), text)
  return execFileSync(process.execPath, [file], { cwd: folder, encoding: 'utf8', timeout: 60_000 }).trim().split('\n')
}

test('the lines for ES modules', () => {
  const [first, admit, web, host, store, clock] = blocks('js').map((text, at) => said(`lines-${at}.mjs`, text))
  assert.deepEqual(first.map(line => line.split(' ').slice(0, 3).join(' ')), ['searches 1 3', 'tokens 321 10000'])
  assert.deepEqual(admit, ["free [ 'searches: 2' ]"])
  assert.deepEqual(web.map(line => line.split(' ')[0]), ['200', '200', '200', '429', '401'])
  assert.match(web[3], /"searches\/day";r=0;t=\d+/)
  assert.deepEqual([...host].sort(), ['ana pro', 'quota_check_success ana'])
  assert.match(store[0], /^true$/)
  assert.match(store[1], /^the store breaks \d+ of \d+ rules:$/)
  assert.deepEqual(clock, ['true false', 'true'])
})

test('the lines of the repository\'s own README', () => {
  const [lines] = [...readFileSync(new URL('README.md', root), 'utf8').matchAll(/```js\n([\s\S]*?)```/g)].map(([, text]) => text)
  assert.deepEqual(said('repository.mjs', lines.replace('quota.db', 'repository.db')), ["true [ 'day: 4', 'month: 49' ]"])
})

test('the lines for CommonJS', () => {
  assert.deepEqual(said('lines.cjs', blocks('cjs')[0]), ['true 9'])
})

test('the lines for TypeScript', () => {
  writeFileSync(join(folder, 'lines.mts'), blocks('ts')[0])
  const tsc = join(require.resolve('typescript/package.json'), '..', 'bin', 'tsc')
  const compilerOptions = { target: 'es2022', lib: ['es2023', 'esnext.disposable'], module: 'nodenext', strict: true, types: ['node'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['lines.mts'] }))
  const { stdout, status } = spawnSync(process.execPath, [tsc], { cwd: folder, encoding: 'utf8' })
  assert.equal(status, 0, stdout)
  assert.deepEqual(said('lines.mjs', readFileSync(join(folder, 'lines.mjs'), 'utf8')), ['312 tokens', 'unknown_name'])
})
