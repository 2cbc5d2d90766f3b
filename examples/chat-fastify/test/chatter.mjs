// The running backend, and its users: over HTTP.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { ManualClock } from 'quotum'

import { createApp } from '../dist/app.js'
import { echo } from '../dist/model.js'
import { settingsOf } from '../dist/settings.js'
import { until } from './stores.mjs'

export const NOON = new Date('2026-03-10T12:00:00Z')

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** A user, as the backend sees one. */
export class Chatter {
  constructor (at, key = 'key-of-ana') {
    this.at = at
    this.key = key
  }

  /** The same backend's other user. */
  as (key) {
    return new Chatter(this.at, key)
  }

  async fetch (path, body, signal) {
    const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
    const headers = { 'x-api-key': this.key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    return await fetch(`${this.at}/api${path}`, { ...sent, headers, signal })
  }

  /** A whole answer: its status, header fields, text, JSON and server-sent events. */
  async ask (path, body) {
    const response = await this.fetch(path, body)
    const text = await response.text()
    const { status, headers } = response
    return { status, headers, text, get json () { return JSON.parse(text) }, get events () { return eventsOf(text) } }
  }

  async say (prompt = 'hello', tokens_max = 10) {
    return await this.ask('/chat', { prompt, tokens_max })
  }

  /** An answer under way, of which so many words have come: the client goes away by `leave()`. */
  async words (count, message = {}) {
    const left = new AbortController()
    const response = await this.fetch('/chat', { prompt: 'hello', tokens_max: 4_000, ...message }, left.signal)
    const parts = response.body.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]()
    let text = ''
    while (eventsOf(text).length < count) text += (await parts.next()).value
    return {
      leave: () => { left.abort() },
      rest: async () => {
        for (let part = await parts.next(); !part.done; part = await parts.next()) text += part.value
        return eventsOf(text)
      },
    }
  }

  async quota () {
    const { status, json, text } = await this.ask('/quota')
    if (status !== 200) throw new Error(text)
    const { messages: { day, month }, tokens } = json.quotas
    return { ...json, day, month, tokens: tokens.month }
  }

  async upgrade (tier) {
    return await this.ask('/upgrade', { tier })
  }

  /** Waits until nothing is held: what is neither used nor remaining. Returns what is used then. */
  async settled () {
    let quota
    const isSettled = async () => {
      quota = await this.quota()
      return [quota.day, quota.month, quota.tokens].every(({ limit, used, remaining }) => used + remaining === limit)
    }
    await until(isSettled, 'a reservation is held for ever')
    return { messages: quota.day.used, tokens: quota.tokens.used }
  }
}

/** The server-sent events that are whole. */
function eventsOf (text) {
  return text.split('\n\n').slice(0, -1).map(part => {
    const [name, data] = part.split('\n')
    return [name.slice('event: '.length), JSON.parse(data.slice('data: '.length))]
  })
}

/** Users that no test before has had, and their keys. */
export function newUsers () {
  const some = randomUUID().slice(0, 8)
  return new Map(['ana', 'ben'].map(name => [`key-of-${name}`, `${name}-${some}`]))
}

/** The backend on a port of its own, until the test has ended, with a clock and a model of the test's. */
export async function served (t, store, { model = echo(0), clock = new ManualClock(NOON), ...changes } = {}) {
  const settings = { ...settingsOf({}), quotumUrl: store.url, keys: newUsers(), ...changes }
  const app = await createApp(settings, { model, clock })
  const at = await app.listen({ host: '127.0.0.1', port: 0 })
  t.after(async () => {
    const closed = app.close()
    // Clients keep some that they may never use.
    app.server.closeAllConnections()
    await closed
  })
  return { ana: new Chatter(at), clock, keys: settings.keys }
}

/** The backend as `npm start` runs it, in a process of its own, which a test may kill. */
export async function started (t, store, environment) {
  const env = { ...process.env, QUOTUM_URL: store.url, LISTEN: '127.0.0.1:0', ...environment }
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const kill = async signal => {
    child.kill(signal)
    return (await ended)[0]
  }
  t.after(() => kill('SIGKILL'))
  for await (const line of createInterface(child.stdout)) {
    const [at] = /http:[\d./:]+/.exec(JSON.parse(line).msg) ?? []
    if (at === undefined) continue
    child.stdout.resume()
    return { ana: new Chatter(at), kill }
  }
  throw new Error('the backend does not start')
}
