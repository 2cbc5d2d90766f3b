// The stores that the backend is tried on: an SQLite file, and servers of PostgreSQL and Redis that are this test's own.
//
// Each has a `url`, and one by which it is `hurried` where it is down. It is taken `down()`, brought `up()` again with what it
// knew, and closed.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Who runs a PostgreSQL server where tests are run by root, whom it refuses. */
const NOBODY = 65_534

/** Waits until something is so. */
export async function until (isSo, otherwise) {
  for (const end = Date.now() + 30_000; !await isSo(); await sleep(50)) {
    if (Date.now() > end) throw new Error(otherwise)
  }
}

export function folder () {
  return mkdtempSync(join(tmpdir(), 'quotum-chat-'))
}

/** A program on the path, or the one of the newest version that is installed beside it. */
function program (name, installation, others = []) {
  const folders = [...others, ...(process.env.PATH ?? '').split(delimiter)]
  const found = folders.map(where => join(where, name)).find(path => existsSync(path))
  if (found === undefined) throw new Error(`${name} is missing: ${installation}`)
  return found
}

/** Starts a process, and returns a function that ends it. It does not outlive this one. */
function started (command, options, where, owner = {}) {
  const log = openSync(join(where, 'log'), 'a')
  const child = spawn(command, options, { cwd: where, stdio: ['ignore', log, log], ...owner })
  const kill = () => { child.kill('SIGKILL') }
  process.once('exit', kill)
  return async () => {
    process.off('exit', kill)
    if (child.exitCode !== null || child.signalCode !== null) return
    // To both servers: now, without waiting for clients.
    child.kill('SIGINT')
    await once(child, 'exit')
  }
}

/** A port that nobody uses at the moment. */
async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function listens (port) {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', () => { resolve(false) })
  })
}

/** An SQLite file. It is down while nobody can write to it: another process does. */
export async function sqlite () {
  const where = folder()
  const file = join(where, 'quota.db')
  let locker
  return {
    url: `sqlite:${file}`,
    // It gives up long before a request does, which could not tell otherwise whether something was done.
    hurried: `sqlite:${file}?busy_timeout_ms=100`,
    async down () {
      locker = spawn(program('sqlite3', 'apt-get install sqlite3'), [file], { stdio: ['pipe', 'pipe', 'inherit'] })
      locker.stdin.write('.timeout 5000\nBEGIN EXCLUSIVE;\n.print locked\n')
      await once(locker.stdout, 'data')
    },
    async up () {
      locker.stdin.end()
      await once(locker, 'exit')
    },
    async close () { rmSync(where, { recursive: true }) },
  }
}

export async function postgres () {
  const versions = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql') : []
  const installed = versions.sort((one, other) => other - one).map(version => `/usr/lib/postgresql/${version}/bin`)
  const programs = ['initdb', 'postgres', 'pg_isready'].map(name => program(name, 'apt-get install postgresql', installed))
  const [initdb, server, isReady] = programs
  const [where, port] = [folder(), await freePort()]
  const owner = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  if (owner.uid !== undefined) chownSync(where, NOBODY, NOBODY)
  const data = join(where, 'data')
  execFileSync(initdb, ['--no-sync', '--auth=trust', '--username=quotum', '-D', data], { cwd: where, ...owner })
  const options = ['-D', data, '-k', where, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off']
  // By the server's own clock, what is logged by one that shows another year is too old to be kept.
  const url = `postgres://quotum@127.0.0.1:${port}/postgres?time=told`
  let stop
  const store = {
    url,
    hurried: url,
    async up () {
      stop = started(server, options, where, owner)
      const asked = ['-q', '-h', '127.0.0.1', '-p', String(port), '-U', 'quotum', '-d', 'postgres']
      await until(() => spawnSync(isReady, asked).status === 0, 'PostgreSQL does not start')
    },
    async down () { await stop() },
    async close () {
      await stop()
      rmSync(where, { recursive: true })
    },
  }
  await store.up()
  return store
}

export async function redis () {
  const server = program('redis-server', 'apt-get install redis-server')
  const [where, port] = [folder(), await freePort()]
  const options = ['--bind', '127.0.0.1', '--port', String(port), '--dir', where, '--save', '', '--appendonly', 'yes']
  const url = `redis://127.0.0.1:${port}`
  let stop
  const store = {
    url,
    hurried: url,
    async up () {
      stop = started(server, options, where)
      await until(() => listens(port), 'Redis does not start')
    },
    async down () { await stop() },
    async close () {
      await stop()
      rmSync(where, { recursive: true })
    },
  }
  await store.up()
  return store
}
