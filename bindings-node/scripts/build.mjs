// Builds the addon with cargo and puts it beside index.js.
import { execFileSync } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'

const folder = fileURLToPath(new URL('..', import.meta.url))
const cargo = (...args) => execFileSync('cargo', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

cargo('build', '--release', '--locked', '--package', 'quotum-node')
const { target_directory: target } = JSON.parse(cargo('metadata', '--format-version=1', '--no-deps'))
const names = { darwin: 'libquotum_node.dylib', win32: 'quotum_node.dll' }
copyFileSync(join(target, 'release', names[process.platform] ?? 'libquotum_node.so'), join(folder, 'quotum.node'))
