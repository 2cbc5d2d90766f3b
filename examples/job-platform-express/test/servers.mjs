// Database servers with nothing in them, each in a folder of its own, on loopback, until the tests have ended.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, chownSync, constants, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Who runs a PostgreSQL server where tests are run by root, whom it refuses. */
const NOBODY = 65_534

/** Counts in a file. */
export async function sqlite () {
  const { folder, remove } = newFolder()
  let databases = 0
  return { url: () => `sqlite:${folder}/${++databases}.db`, end: remove }
}

export async function postgres () {
  const programs = postgresPrograms()
  const { folder, remove } = newFolder()
  const port = await freePort()
  const user = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const run = (program, ...options) => execFileSync(join(programs, program), options, { cwd: folder, stdio: 'pipe', ...user })
  run('initdb', '--no-sync', '--auth=trust', '--username=quotum', '-D', `${folder}/data`)
  const at = ['-h', folder, '-p', String(port), '-U', 'quotum']
  // It listens on a socket in its folder alone.
  const options = ['-D', `${folder}/data`, '-k', folder, '-p', String(port), '-c', 'listen_addresses=', '-c', 'fsync=off']
  const server = await started(join(programs, 'postgres'), options, { cwd: folder, ...user }, async () => {
    try {
      run('pg_isready', '-q', ...at, '-d', 'postgres')
      return true
    } catch {
      return false
    }
  })
  let databases = 0
  const url = () => {
    const name = `test_${++databases}`
    run('createdb', ...at, name)
    return `postgres:///${name}?user=quotum&port=${port}&host=${folder}`
  }
  return { url, stop: server.stop, end: async () => { await server.stop(); remove() } }
}

export async function redis () {
  const program = onPath('redis-server') ?? onPath('valkey-server')
  assert.ok(program, 'a Redis server is missing: apt-get install redis-server')
  const { folder, remove } = newFolder()
  const port = await freePort()
  const options = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--databases', '100']
  const server = await started(program, options, { cwd: folder }, () => listens(port))
  let databases = 0
  const url = () => `redis://127.0.0.1:${port}/${databases++}`
  return { url, stop: server.stop, end: async () => { await server.stop(); remove() } }
}

/** Has a file of SQLite locked against everybody. Its locks are those of processes, so it takes another one. */
export async function locked (file) {
  const python = onPath('python3')
  assert.ok(python, 'python3 is missing, which locks a file of SQLite: apt-get install python3')
  const lock = `
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
`
  const locker = spawn(python, ['-c', lock, file], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(locker.stdout, 'data')
  return async () => {
    locker.stdin.end()
    await once(locker, 'exit')
  }
}

export function newFolder () {
  const folder = mkdtempSync(join(tmpdir(), 'job-platform-'))
  return { folder, remove: () => { rmSync(folder, { recursive: true }) } }
}

/** Starts a program, and waits until it is ready. */
export async function started (program, options, { cwd, ...how }, isReady) {
  const log = join(cwd, 'log')
  const written = openSync(log, 'a')
  const server = spawn(program, options, { cwd, stdio: ['ignore', written, written], ...how })
  const exited = once(server, 'exit')
  for (let waited = 0; !await isReady(); waited += 20) {
    assert.ok(server.exitCode === null && waited < 60_000, `${program} does not start: ${readFileSync(log, 'utf8')}`)
    await sleep(20)
  }
  const stop = async (signal = 'SIGINT') => {
    // By its id, and only as long as it is there. SIGINT is "now" to PostgreSQL, without waiting for clients.
    if (server.exitCode === null && server.signalCode === null) server.kill(signal)
    await exited
  }
  return { stop }
}

/** A port that nobody uses at the moment. */
export async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export async function listens (port) {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

function postgresPrograms () {
  const all = '/usr/lib/postgresql'
  const versions = existsSync(all) ? readdirSync(all).filter(version => existsSync(join(all, version, 'bin/initdb'))) : []
  const newest = versions.sort((one, other) => Number(one) - Number(other)).at(-1)
  const programs = newest === undefined ? onPath('initdb')?.slice(0, -'/initdb'.length) : join(all, newest, 'bin')
  assert.ok(programs, 'a PostgreSQL server is missing: apt-get install postgresql')
  return programs
}

function onPath (program) {
  return (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, program)).find(path => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
