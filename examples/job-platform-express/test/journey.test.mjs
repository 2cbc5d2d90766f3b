// What a client sees, from its first request to its first denial and beyond.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { HOUR, onEveryStore, SECOND, serve, statusesOf } from './client.mjs'
import { locked, newFolder } from './servers.mjs'

onEveryStore(({ name, start, url }) => {
  test('the first job is made, and what is left is told', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    const { status, body: { jobs }, field } = await app.newJob(ana)
    assert.deepEqual([status, jobs.used, jobs.remaining, jobs.resetsAt], [201, 1, 9, '2026-02-28T09:00:00.000Z'])
    assert.equal(
      field('ratelimit-policy'),
      '"api/60s";q=60;w=60, "api_calls/day";q=100;qu="api_calls", "jobs/3600s";q=10;w=3600, "jobs/billing_month";q=10;qu="jobs"',
    )
    assert.equal(
      field('ratelimit'),
      '"api/60s";r=59;t=1, "api_calls/day";r=99;t=54000, "jobs/3600s";r=9;t=360, "jobs/billing_month";r=9;t=2419200',
    )
    const me = (await app.ask('GET', '/v1/subscription/me', ana)).body
    assert.deepEqual([me.user, me.plan, me.status, me.account], ['ana@example.com', 'free', 'active', null])
    const usage = (await app.ask('GET', '/v1/usage', ana)).body
    assert.deepEqual([usage.planName, usage.features.api_access], ['Free', false])
    assert.deepEqual(usage.quotas.map(({ metric, used }) => [metric, used]), [
      ['api_calls', 1], ['compute_minutes', 0], ['jobs', 1], ['storage_mb', 0],
    ])
  })

  test('after the last job of the month there is a 402 that says where to buy more', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    for (let job = 1; job <= 10; job++) {
      const made = await app.newJob(ana)
      assert.deepEqual([made.status, made.body.jobs?.used], [201, job], made.text)
    }
    const tooFast = await app.newJob(ana)
    assert.deepEqual([tooFast.status, tooFast.field('retry-after'), tooFast.body.reason], [429, '360', 'rate_limited'])
    assert.equal(tooFast.body.current, undefined)

    app.pass(360 * SECOND)
    const { status, body, field } = await app.newJob(ana)
    assert.equal(status, 402)
    assert.equal(field('content-type'), 'application/problem+json')
    assert.equal(field('retry-after'), '2418840')
    assert.match(field('ratelimit'), /, "jobs\/billing_month";r=0;t=2418840$/)
    assert.deepEqual(body, {
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      title: 'Quota Exceeded',
      status: 402,
      detail: 'jobs: 10 of 10/billing_month used, 1 more do not fit; starts afresh at 2026-02-28T09:00:00Z; ' +
        'plan pro would allow it',
      'violated-policies': ['jobs/billing_month'],
      reason: 'quota_exhausted',
      metric: 'jobs',
      period: 'billing_month',
      requested: 1,
      limit: 10,
      used: 10,
      resets_at: '2026-02-28T09:00:00Z',
      upgrade_to: 'pro',
      current: 10,
      upgrade_url: '/v1/plans?upgrade_to=pro',
    })
  })

  test('of a burst at the edge exactly the limit passes', async t => {
    const app = await serve(t, { url: url() })
    const [ana, bob] = [await app.register('ana'), await app.register('bob')]
    await app.sell(ana, 'pro')
    const files = Array.from({ length: 64 }, (_, file) => app.store(ana, `file-${file}`, 200))
    assert.deepEqual(await statusesOf(files), { 201: 50, 402: 14 })
    assert.equal((await app.quota(ana, 'storage_mb')).used, 10_000)
    const jobs = Array.from({ length: 40 }, () => app.newJob(bob))
    assert.deepEqual(await statusesOf(jobs), { 201: 10, 429: 30 })
    assert.equal((await app.quota(bob, 'jobs')).used, 10)
  })

  test('a month is counted from when the user came, and a day begins at midnight', async t => {
    const app = await serve(t, { url: url() })
    let ana = await app.register('ana')
    for (let job = 1; job <= 10; job++) assert.equal((await app.newJob(ana)).status, 201)
    app.turnTo('2026-01-31T23:59:59Z')
    ana = await app.logIn(ana)
    assert.equal((await app.quota(ana, 'api_calls')).used, 10)
    app.pass(SECOND)
    assert.equal((await app.quota(ana, 'api_calls')).used, 0)

    app.turnTo('2026-02-28T08:59:59Z')
    ana = await app.logIn(ana)
    const denied = await app.newJob(ana)
    assert.deepEqual([denied.status, denied.field('retry-after')], [402, '1'])
    app.pass(SECOND)
    const next = await app.newJob(ana)
    assert.deepEqual([next.status, next.body.jobs.used, next.body.jobs.resetsAt], [201, 1, '2026-03-31T09:00:00.000Z'])
  })

  test('a dearer plan in the middle of a month holds at once, and what was used is still counted', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    for (let job = 1; job <= 10; job++) assert.equal((await app.newJob(ana)).status, 201)
    app.pass(HOUR)
    assert.equal((await app.newJob(ana)).status, 402)
    assert.equal((await app.sell(ana, 'pro', 365)).expiresAt, '2027-01-31T10:00:00.000Z')
    const { status, body: { jobs }, field } = await app.newJob(ana)
    assert.deepEqual([status, jobs.used, jobs.limit, jobs.resetsAt], [201, 11, 100, '2026-02-28T09:00:00.000Z'])
    assert.match(field('ratelimit-policy'), /"jobs\/3600s";q=50;w=3600/)
  })

  test('a store that fails is 503, and never 429', async t => {
    const { folder, remove } = newFolder()
    t.after(remove)
    const server = name === 'sqlite' ? undefined : await start()
    const app = await serve(t, { url: server?.url() ?? `sqlite:${folder}/quota.db`, storeTimeoutMs: 300 })
    const ana = await app.register('ana')
    assert.equal((await app.newJob(ana)).status, 201)

    const unlock = server === undefined ? await locked(`${folder}/quota.db`) : await server.stop()
    for (let attempt = 1; attempt <= 7; attempt++) {
      const failed = await app.newJob(ana)
      assert.deepEqual([failed.status, failed.body.reason], [503, 'store_unavailable'], failed.text)
      assert.ok(Number(failed.field('retry-after')) >= 1)
      assert.ok(!failed.text.includes(folder))
    }
    assert.equal((await app.asAdmin('GET', '/stats')).status, 503)

    if (unlock === undefined) return await server.end()
    await unlock()
    app.pass(60 * SECOND)
    const back = await app.newJob(ana)
    assert.deepEqual([back.status, back.body.jobs?.used], [201, 2], back.text)
  })

  test('what was used is used after a restart', async t => {
    const [at, { folder: data, remove }] = [url(), newFolder()]
    t.after(remove)
    const before = await serve(t, { url: at, data })
    const ana = await before.register('ana')
    await before.sell(ana, 'pro')
    for (let job = 1; job <= 3; job++) assert.equal((await before.newJob(ana)).status, 201)
    await before.stop()

    const app = await serve(t, { url: at, data, at: '2026-01-31T10:00:00Z' })
    const { body: { jobs } } = await app.newJob(ana)
    assert.deepEqual([jobs.used, jobs.limit, jobs.resetsAt], [4, 100, '2026-02-28T09:00:00.000Z'])
  })

  test('members share the plan of their organisation, and each takes a seat', async t => {
    const app = await serve(t, { url: url() })
    const [ana, bob] = [await app.register('ana'), await app.register('bob')]
    const member = ({ id }) => `/organisations/acme/members/${id}`
    assert.equal((await app.asAdmin('PUT', member(ana))).status, 404, 'there is no such organisation yet')
    assert.equal((await app.asAdmin('PUT', '/organisations/acme', { plan: 'pro', days: 365 })).status, 200)
    const seatless = await app.asAdmin('PUT', member(ana))
    assert.deepEqual([seatless.status, seatless.body.upgrade_url], [402, '/v1/plans?upgrade_to=enterprise'])
    app.pass(HOUR)
    const { body: { anchor } } = await app.asAdmin('PUT', '/organisations/acme', { plan: 'enterprise', days: 365 })
    assert.equal(anchor, '2026-01-31T09:00:00.000Z', 'its months go on as they began')
    for (const user of [ana, bob, bob]) assert.equal((await app.asAdmin('PUT', member(user))).status, 200)
    const acme = { id: 'org:acme' }
    assert.equal((await app.quota(acme, 'seats')).used, 2, 'who is added twice takes one seat')

    assert.equal((await app.store(ana, 'video', 300_000)).status, 201)
    const denied = await app.store(bob, 'video', 200_001)
    assert.deepEqual([denied.status, denied.body.current, denied.body.upgrade_url], [402, 300_000, null])
    assert.equal((await app.store(bob, 'video', 200_000)).status, 201)
    const me = (await app.ask('GET', '/v1/subscription/me', bob)).body
    assert.deepEqual([me.plan, me.account], ['enterprise', 'org:acme'])

    assert.equal((await app.asAdmin('POST', `/users/${bob.id}/suspend`)).status, 409)
    assert.equal((await app.asAdmin('DELETE', member(bob))).status, 204)
    assert.equal((await app.ask('GET', '/v1/subscription/me', bob)).body.plan, 'free')
    assert.equal((await app.quota(acme, 'seats')).used, 1)
    assert.equal((await app.ask('DELETE', '/v1/storage/video', bob)).status, 204)
    assert.equal((await app.quota(acme, 'storage_mb')).used, 300_000, 'what was charged to it is given back to it')
  })

  test('storage goes up and down, and stays over the end of a month', async t => {
    const app = await serve(t, { url: url() })
    let ana = await app.register('ana')
    assert.equal((await app.store(ana, 'video', 90)).status, 201)
    const denied = await app.store(ana, 'other', 11)
    assert.deepEqual([denied.status, denied.body.current, denied.body.limit, denied.body.resets_at], [402, 90, 100, undefined])
    app.turnTo('2026-04-01T00:00:00Z')
    ana = await app.logIn(ana)
    assert.equal((await app.quota(ana, 'storage_mb')).used, 90)
    assert.equal((await app.store(ana, 'other', 11)).status, 402)
    assert.equal((await app.store(ana, 'other', 10)).status, 201)

    const remove = name => app.ask('DELETE', `/v1/storage/${name}`, ana)
    assert.deepEqual(await statusesOf([remove('video'), remove('video'), remove('video')]), { 204: 1, 404: 2 })
    assert.equal((await app.quota(ana, 'storage_mb')).used, 10, 'nothing is given back twice')
    assert.equal((await app.store(ana, 'other', 20)).status, 201)
    assert.equal((await app.quota(ana, 'storage_mb')).used, 20, 'a file takes the place of the one before')
  })

  test('logging in is limited by the address that the proxy saw, whatever a client says of itself', async t => {
    const app = await serve(t, { url: url() })
    const guess = from => app.ask('POST', '/v1/login', { body: { email: 'ana@example.com', password: 'guess' }, from })
    for (let attempt = 1; attempt <= 10; attempt++) {
      assert.equal((await guess(`198.51.100.${attempt}, 192.0.2.7`)).status, 401)
    }
    const denied = await guess('198.51.100.11, 192.0.2.7')
    assert.deepEqual([denied.status, denied.field('retry-after')], [429, '360'])
    assert.equal(denied.field('ratelimit-policy'), '"login/3600s";q=10;w=3600')
    assert.equal((await guess('192.0.2.8')).status, 401, 'another address')
    app.pass(359 * SECOND)
    assert.equal((await guess('192.0.2.7')).status, 429)
    app.pass(SECOND)
    assert.equal((await guess('192.0.2.7')).status, 401, 'who waits as told is let pass')
  })
})
