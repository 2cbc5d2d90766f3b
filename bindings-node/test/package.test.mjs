// The package: what is in it, for whom, and that its types are what the compiler makes of its sources.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { root } from './root.mjs'

const require = createRequire(import.meta.url)
const manifest = require('quotum/package.json')
const folder = join(fileURLToPath(root), 'bindings-node')
const here = fileURLToPath(new URL('.', import.meta.url))
const tsc = join(require.resolve('typescript/package.json'), '..', 'bin', 'tsc')

/** Runs the compiler; what it complains of. */
function compile (...args) {
  const { stdout, status } = spawnSync(process.execPath, [tsc, ...args], { encoding: 'utf8' })
  return status === 0 ? '' : stdout
}

test('one version covers the crate, the wheel and the addon', () => {
  const [, workspace] = /^version = "(.*)"$/m.exec(readFileSync(new URL('Cargo.toml', root), 'utf8'))
  assert.equal(manifest.version, workspace)
})

test('every module is imported and required, and is the same', async () => {
  const modules = Object.keys(manifest.exports).filter(path => !path.endsWith('.json'))
  assert.ok(modules.length >= 10)
  for (const path of modules) {
    const name = path.replace('.', 'quotum')
    const [imported, required] = [await import(name), require(name)]
    const names = Object.keys(required).filter(name => name !== '__esModule')
    assert.ok(names.length > 0, name)
    for (const exported of names) assert.equal(imported[exported], required[exported], `${name} ${exported}`)
  }
})

test('the checked-in types are those of the sources', () => {
  const made = mkdtempSync(join(tmpdir(), 'quotum-types-'))
  try {
    assert.equal(compile('--project', folder, '--emitDeclarationOnly', '--declarationDir', made), '')
    for (const name of readdirSync(join(folder, 'types'))) {
      assert.equal(readFileSync(join(folder, 'types', name), 'utf8'), readFileSync(join(made, name), 'utf8'), `${name}: npm run build`)
    }
  } finally {
    rmSync(made, { recursive: true })
  }
})

test('the types say what is right and refuse what is wrong', () => {
  assert.equal(compile('--project', join(here, 'typing')), '')
})

test('everything that can be imported has a comment', () => {
  const missing = []
  for (const name of readdirSync(join(folder, 'types'))) {
    const lines = readFileSync(join(folder, 'types', name), 'utf8').split('\n')
    let isInternal = false
    lines.forEach((line, at) => {
      // What is declared without being exported is nobody's to import.
      if (/^(export )?(declare )?(interface|class|type|function|const|abstract)/.test(line)) isInternal = !line.startsWith('export')
      const isDeclared = /^export (declare )?(abstract )?(class|interface|type|function|const) \w/.test(line)
      const isMember = /^ {4}(static |readonly |get |abstract )*[\w$]+(\??:|[<(])/.test(line) && !/^ {4}(private|constructor|#)/.test(line)
      if ((isDeclared || (isMember && !isInternal)) && !/\*\/\s*$/.test(lines[at - 1] ?? '')) {
        // The comment of an overloaded function is on the first of them.
        const member = line.trim().split(/[<(]/)[0]
        const isOverload = lines.slice(Math.max(0, at - 4), at).some(before => before.trim().startsWith(`${member}<`) || before.trim().startsWith(`${member}(`))
        if (!isOverload) missing.push(`${name}:${at + 1}: ${line.trim()}`)
      }
    })
  }
  assert.deepEqual(missing, [])
})

test('what is packed is what the package needs', () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
  const paths = files.map(({ path }) => path)
  assert.equal(paths.filter(path => path.endsWith('.node')).length, 1)
  for (const path of ['README.md', 'LICENSE-APACHE', 'LICENSE-MIT']) assert.ok(paths.includes(path), path)
  assert.deepEqual(paths.filter(path => !/^(dist|types)\/[\w-]+\.(js|d\.ts)$|^(package\.json|README\.md|LICENSE-.*|quotum\..*\.node)$/.test(path)), [])
  const publint = join(folder, 'node_modules', '.bin', 'publint')
  const said = spawnSync(process.execPath, [publint, folder, '--strict'], { encoding: 'utf8' })
  assert.equal(said.status, 0, said.stdout + said.stderr)
})

test('it can be loaded anew in one process, as test runners do, and is loaded without asking for the names of peers', () => {
  const text = `
    process.on('warning', warning => { console.log('warned', warning.message) })
    process.report.getReport = () => { throw new Error('it looks every connection up') }
    const { Quota } = require('quotum')
    const plans = { default_plan: 'a', plans: { a: { quotas: { jobs: '3/day' } } } }
    const load = async () => {
      for (const path of Object.keys(require.cache)) if (path.endsWith('.js')) delete require.cache[path]
      const again = require('quotum').Quota
      if (again === Quota) throw new Error('it was not loaded anew')
      const quota = await again.open('memory:', { plans })
      if (!(await quota.consume('ana', { jobs: 1 })).allowed) throw new Error('it denies')
    }
    (async () => { for (let time = 0; time < 20; time++) await load() })().then(() => { setTimeout(() => console.log('done'), 20) })
  `
  assert.equal(execFileSync(process.execPath, ['--eval', text], { cwd: here, encoding: 'utf8', timeout: 30_000 }), 'done\n')
})

test('a platform without an addon is told what to do', () => {
  const text = `
    Object.defineProperty(process, 'arch', { value: 'mips' })
    try { require('quotum') } catch (error) { console.log(error.message) }
  `
  const said = execFileSync(process.execPath, ['--eval', text], { cwd: here, encoding: 'utf8' })
  assert.match(said, /^quotum has no addon for this platform: quotum\.\w+-mips.*\.node could not be loaded.*npm run build/)
})
