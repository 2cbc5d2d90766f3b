// The other faults of the backend's own quota code, each of them tried; the limits of days and months, levels, races and
// expired keys are in `journey.test.mjs`.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { Plans } from 'quotum'

import { ADMIN, DAY, HOUR, onEveryStore, SECOND, serve, statusesOf } from './client.mjs'
import { newFolder } from './servers.mjs'

test('a limit that is missing or empty is never unlimited', () => {
  for (const limit of ['', -1, 0, null, '/billing_month', 'null/billing_month']) {
    const plans = { default_plan: 'free', plans: { free: { quotas: { jobs: limit } } } }
    assert.throws(() => Plans.from(plans), { code: 'plans_refused' }, String(limit))
  }
})

onEveryStore(({ url }) => {
  test('no use is lost among many at once, not even the first', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    const files = Array.from({ length: 48 }, (_, file) => app.store(ana, `file-${file}`, 1))
    assert.deepEqual(await statusesOf(files), { 201: 48 })
    assert.deepEqual([(await app.quota(ana, 'storage_mb')).used, (await app.quota(ana, 'api_calls')).used], [48, 48])
  })

  test('the calls of a day end in a 429, and who has none left can still look and make room', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    for (let call = 1; call <= 100; call++) {
      assert.equal((await app.store(ana, 'notes', 1)).status, 201)
      app.pass(SECOND)
    }
    const denied = await app.store(ana, 'notes', 1)
    assert.deepEqual([denied.status, denied.body.metric, denied.body.limit], [429, 'api_calls', 100])
    assert.equal(denied.field('retry-after'), String(15 * 3_600 - 100))
    assert.equal((await app.ask('GET', '/v1/usage', ana)).status, 200)
    assert.equal((await app.ask('DELETE', '/v1/storage/notes', ana)).status, 204)
  })

  test('a name that no plan knows is refused with those that there are', async t => {
    const app = await serve(t, { url: url() })
    const { id } = await app.register('ana')
    const plan = await app.asAdmin('POST', `/users/${id}/plan`, { plan: 'platinum', days: 30 })
    assert.equal(plan.status, 422)
    assert.match(plan.body.detail, /free, pro, enterprise/)
    const metric = await app.asAdmin('POST', `/users/${id}/reset`, { metric: 'jobz' })
    assert.equal(metric.status, 422)
    assert.match(metric.body.detail, /compute_minutes, jobs/)
    for (const days of [undefined, 0, 1.5, '30']) {
      assert.equal((await app.asAdmin('POST', `/users/${id}/plan`, { plan: 'pro', days })).status, 422)
    }
  })

  test('what does not fit whole is not granted in part', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    const job = await app.newJob(ana, { storage_mb: 101 })
    assert.deepEqual([job.status, job.body.metric, job.body.reason], [402, 'storage_mb', 'never_fits'])
    assert.equal((await app.quota(ana, 'jobs')).used, 0)
    for (const [file, mb, status] of [['a', 99, 201], ['b', 2, 402], ['c', 1, 201]]) {
      assert.equal((await app.store(ana, file, mb)).status, status)
    }
    for (const mb of [0, -5, 1.5, '7', undefined]) assert.equal((await app.store(ana, 'd', mb)).status, 422)
    assert.equal((await app.quota(ana, 'storage_mb')).used, 100)
  })

  test('a plan that is no longer paid for ends after the grace', async t => {
    const app = await serve(t, { url: url() })
    let ana = await app.register('ana')
    await app.sell(ana, 'pro', 30)
    for (const [pass, plan] of [[33 * DAY - SECOND, 'pro'], [SECOND, 'free']]) {
      app.pass(pass)
      ana = await app.logIn(ana)
      assert.equal((await app.ask('GET', '/v1/subscription/me', ana)).body.plan, plan)
    }
  })

  test('clearing rates clears those that a user is held by', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    while ((await app.newJob(ana)).status === 201);
    assert.equal((await app.newJob(ana)).status, 429)
    assert.equal((await app.asAdmin('POST', `/users/${ana.id}/clear-rate-limits`)).status, 204)
    assert.equal((await app.newJob(ana)).status, 402, 'the ten of the month are used up')

    const guess = () => app.ask('POST', '/v1/login', { body: { email: ana.id, password: 'guess' }, from: '192.0.2.9' })
    while ((await guess()).status === 401);
    assert.equal((await app.asAdmin('POST', '/addresses/192.0.2.9/clear-rate-limits')).status, 204)
    assert.equal((await guess()).status, 401)
    const [newest] = (await app.asAdmin('GET', '/audit')).body
    assert.deepEqual([newest.name, newest.actor], ['rates_cleared', 'admin:root'])
  })

  test('features are asked for where they are used', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    const byKey = () => app.ask('GET', '/v1/usage', { token: ana.apiKey })
    const denied = await byKey()
    assert.deepEqual([denied.status, denied.body.feature, denied.body.upgrade_to], [403, 'api_access', 'pro'])
    await app.sell(ana, 'pro')
    assert.equal((await byKey()).status, 200)
    const custom = await app.newJob(ana, { model: 'my-own' })
    assert.deepEqual([custom.status, custom.body.upgrade_to, (await app.quota(ana, 'jobs')).used], [403, 'enterprise', 0])
    await app.sell(ana, 'enterprise')
    assert.equal((await app.newJob(ana, { model: 'my-own' })).status, 201)
  })

  test('minutes are set aside, and those that a job took are charged', async t => {
    const app = await serve(t, { url: url() })
    const [ana, bob] = [await app.register('ana'), await app.register('bob')]
    const { id } = (await app.newJob(ana)).body
    const run = ({ token }, minutes) => app.ask('POST', `/v1/jobs/${id}/run`, { token, body: { minutes } })
    assert.equal((await run(bob, 12)).status, 404, 'it is not his')
    assert.equal((await run(ana, 61)).status, 422)
    assert.deepEqual(await statusesOf([run(ana, 12), run(ana, 12), run(ana, 12)]), { 200: 1, 409: 2 })
    assert.equal((await app.quota(ana, 'compute_minutes')).used, 12)
  })

  test('a job that never ran is refunded in its month, and in no other', async t => {
    const app = await serve(t, { url: url() })
    let ana = await app.register('ana')
    const [first, second, third] = [await app.newJob(ana, { storage_mb: 60 }), await app.newJob(ana), await app.newJob(ana)]
    const remove = ({ body: { id } }) => app.ask('DELETE', `/v1/jobs/${id}`, ana)
    assert.deepEqual(await statusesOf([remove(first), remove(first)]), { 204: 1, 404: 1 })
    assert.deepEqual([(await app.quota(ana, 'jobs')).used, (await app.quota(ana, 'storage_mb')).used], [2, 0])
    await app.ask('POST', `/v1/jobs/${second.body.id}/run`, { token: ana.token, body: { minutes: 1 } })
    assert.equal((await remove(second)).status, 204)
    assert.equal((await app.quota(ana, 'jobs')).used, 2, 'it has run')
    app.turnTo('2026-02-28T09:00:00Z')
    ana = await app.logIn(ana)
    await app.newJob(ana)
    assert.equal((await remove(third)).status, 204)
    assert.equal((await app.quota(ana, 'jobs')).used, 1)
  })

  test('nobody comes in without a token, no user administrates, and no token is kept', async t => {
    const { folder: data, remove } = newFolder()
    t.after(remove)
    const app = await serve(t, { url: url(), data })
    const ana = await app.register('ana')
    for (const token of [undefined, 'guessed', `${ana.token}x`]) {
      for (const path of ['/v1/usage', '/v1/admin/audit']) {
        const answer = await app.ask('GET', path, { token })
        assert.deepEqual([answer.status, answer.body.reason], [401, 'unauthenticated'])
      }
    }
    for (const path of ['/users', '/stats', '/audit', `/users/${ana.id}`]) {
      assert.equal((await app.ask('GET', `/v1/admin${path}`, ana)).status, 403)
    }
    const kept = readdirSync(data, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
      .map(({ name, parentPath, path }) => name + readFileSync(join(parentPath ?? path, name), 'utf8')).join()
    for (const secret of [ana.token, ana.apiKey, ADMIN, 'correct horse']) assert.ok(!kept.includes(secret))
    app.pass(12 * HOUR)
    assert.equal((await app.ask('GET', '/v1/usage', ana)).status, 401, 'sessions end')
  })
})
