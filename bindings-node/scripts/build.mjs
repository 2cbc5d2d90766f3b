// Builds the addon with cargo, puts it where `lib/addon.ts` looks for it, and compiles the TypeScript beside it.
import { execFileSync } from 'node:child_process'
import { copyFileSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('..', import.meta.url))
const run = (program, ...args) => execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

const libc = process.platform !== 'linux' ? '' : process.report.getReport().header.glibcVersionRuntime === undefined ? '-musl' : '-gnu'
const addon = join(folder, `quotum.${process.platform}-${process.arch}${libc}.node`)

run('cargo', 'build', '--release', '--locked', '--package', 'quotum-node')
const { target_directory: target } = JSON.parse(run('cargo', 'metadata', '--format-version=1', '--no-deps'))
const libraries = { darwin: 'libquotum_node.dylib', win32: 'quotum_node.dll' }
// A new file: one that is loaded must not be written over.
rmSync(addon, { force: true })
copyFileSync(join(target, 'release', libraries[process.platform] ?? 'libquotum_node.so'), addon)
if (process.platform === 'linux') run('strip', '--strip-debug', addon)

// What is packed carries its licences.
for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) copyFileSync(join(folder, '..', licence), join(folder, licence))

const tsc = join(createRequire(import.meta.url).resolve('typescript/package.json'), '..', 'bin', 'tsc')
for (const made of ['dist', 'types']) rmSync(join(folder, made), { recursive: true, force: true })
process.stdout.write(run(process.execPath, tsc, '--project', folder))

// Of the declarations, only those are kept that somebody can import, or that these name.
const { exports: entries } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
const named = Object.values(entries).flatMap(entry => entry.types === undefined ? [] : [entry.types.slice('./types/'.length)])
for (const name of named) {
  const text = readFileSync(join(folder, 'types', name), 'utf8')
  for (const [, other] of text.matchAll(/from '\.\/([^']+)\.js'/g)) {
    if (!named.includes(`${other}.d.ts`)) named.push(`${other}.d.ts`)
  }
}
for (const name of readdirSync(join(folder, 'types'))) {
  if (!named.includes(name)) rmSync(join(folder, 'types', name))
}
