// Runs the tests against the packed package, as it is installed: from a folder without its sources.
//
//     npm test                      all of them
//     npm test -- store memory      those whose files are so called
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('..', import.meta.url))
const packed = join(folder, '.packed')
const npm = (where, ...args) => execFileSync('npm', args, { cwd: where, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

rmSync(packed, { recursive: true, force: true })
mkdirSync(packed)
const [{ filename }] = JSON.parse(npm(folder, 'pack', '--json', '--pack-destination', packed))
writeFileSync(join(packed, 'package.json'), '{ "private": true, "type": "module" }\n')
npm(packed, 'install', '--no-audit', '--no-fund', '--no-package-lock', `./${filename}`)
// What the tests need besides is found in the folder above.
cpSync(join(folder, 'test'), join(packed, 'test'), { recursive: true })

const wanted = process.argv.slice(2)
const files = readdirSync(join(packed, 'test')).filter(file => file.endsWith('.test.mjs'))
const chosen = files.filter(file => wanted.length === 0 || wanted.some(name => file === `${name}.test.mjs`))
if (chosen.length === 0) throw new Error(`no tests are called ${wanted.join(', ')}; there are ${files.join(', ')}`)
const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=dot', '--expose-gc', ...chosen.map(file => join('test', file))], { cwd: packed, stdio: 'inherit' })
process.exitCode = status ?? 1
