// The platform as its users and its administrator see it: over HTTP, on a clock that only the test turns.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, before, describe } from 'node:test'

import { ManualClock } from 'quotum'

import { createApp } from '../dist/app.js'
import { openPlatform } from '../dist/platform.js'
import { settingsOf } from '../dist/settings.js'
import { newFolder, postgres, redis, sqlite } from './servers.mjs'

/** The last day of a month: what is anchored here tells months from thirty days. */
export const START = '2026-01-31T09:00:00Z'
export const ADMIN = 'token-of-root'
export const SECOND = 1_000
export const HOUR = 3_600 * SECOND
export const DAY = 24 * HOUR

/** Describes what is so on every store. */
export function onEveryStore (describeOn) {
  for (const [name, start] of Object.entries({ sqlite, postgres, redis })) {
    describe(`on ${name}`, () => {
      let store
      before(async () => { store = await start() })
      after(async () => { await store?.end() })
      describeOn({ name, start, url: () => store.url() })
    })
  }
}

let addresses = 0

/** Asks over HTTP. */
export class Client {
  constructor (at) {
    this.at = at
  }

  async ask (method, path, { token, body, from } = {}) {
    const headers = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(from === undefined ? {} : { 'x-forwarded-for': from }),
    }
    const sent = body === undefined ? {} : { body: JSON.stringify(body) }
    const response = await fetch(this.at + path, { method, headers, ...sent })
    const field = name => response.headers.get(name)
    const text = await response.text()
    return { status: response.status, field, text, body: /json/.test(field('content-type')) ? JSON.parse(text) : undefined }
  }

  /** A new user, from an address of its own, so that tests do not slow each other's users down. */
  async register (name) {
    const id = `${name}@example.com`
    const from = `203.0.113.${++addresses % 250}`
    const answer = await this.ask('POST', '/v1/register', { body: { email: id, password: 'correct horse' }, from })
    assert.equal(answer.status, 201, answer.text)
    return { id, token: answer.body.token, apiKey: answer.body.api_key }
  }

  /** The same user with a new session, for sessions end after half a day. */
  async logIn ({ id, ...user }, from = `203.0.113.${++addresses % 250}`) {
    const answer = await this.ask('POST', '/v1/login', { body: { email: id, password: 'correct horse' }, from })
    assert.equal(answer.status, 200, answer.text)
    return { id, ...user, token: answer.body.token }
  }

  async newJob ({ token }, body = {}) {
    return await this.ask('POST', '/v1/jobs', { token, body })
  }

  async store ({ token }, name, mb) {
    return await this.ask('PUT', `/v1/storage/${name}`, { token, body: { mb } })
  }

  async asAdmin (method, path, body) {
    return await this.ask(method, `/v1/admin${path}`, { token: ADMIN, body })
  }

  async sell ({ id }, plan, days = 30) {
    const sold = await this.asAdmin('POST', `/users/${id}/plan`, { plan, days })
    assert.equal(sold.status, 200, sold.text)
    return sold.body
  }

  /** One quota of a user. */
  async quota ({ id }, metric) {
    const { body } = await this.asAdmin('GET', `/users/${id}`)
    return body.usage.quotas.find(state => state.metric === metric)
  }
}

/** How often each status came back. */
export async function statusesOf (answers) {
  const statuses = {}
  for (const { status } of await Promise.all(answers)) statuses[status] = (statuses[status] ?? 0) + 1
  return statuses
}

/** The app in this process. It is stopped when the test has ended, or before. */
export async function serve (t, { url, data, at = START, ...more }) {
  if (data === undefined) {
    const { folder, remove } = newFolder()
    t.after(remove)
    data = folder
  }
  const clock = new ManualClock(new Date(at))
  const settings = { ...settingsOf({}), quotumUrl: url, data, adminToken: ADMIN, trustedHops: 1, ...more }
  const platform = await openPlatform(settings, clock)
  const server = createServer(createApp(platform)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = new Client(`http://127.0.0.1:${server.address().port}`)
  let stopped
  const stop = async () => {
    server.close()
    server.closeAllConnections()
    // A store that was stopped cannot be told that this one ends.
    await platform.quota.close().catch(() => {})
  }
  client.stop = () => (stopped ??= stop())
  client.pass = ms => { clock.advance(ms) }
  client.turnTo = time => { clock.advance(new Date(time) - clock.now) }
  t.after(client.stop)
  return client
}
