// What administrators see and change.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { onEveryStore, serve } from './client.mjs'

onEveryStore(({ url }) => {
  test('users are listed, found and filtered, and counted by plan', async t => {
    const app = await serve(t, { url: url() })
    await app.register('ana')
    await app.sell(await app.register('bob'), 'pro')
    const found = async query => (await app.asAdmin('GET', `/users?${query}`)).body.map(({ subject }) => subject)
    assert.deepEqual(await found(''), ['ana@example.com', 'bob@example.com'])
    assert.deepEqual(await found('after=ana@example.com'), ['bob@example.com'])
    assert.deepEqual(await found('containing=bob&plan=pro&status=active'), ['bob@example.com'])
    assert.deepEqual(await found('plan=enterprise'), [])
    const { status, body: { users } } = await app.asAdmin('GET', '/stats')
    assert.equal(status, 200)
    assert.deepEqual(users, [{ plan: 'free', status: 'active', subjects: 1 }, { plan: 'pro', status: 'active', subjects: 1 }])
  })

  test('a user is suspended and comes back, on the plan that it was on', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    const { expiresAt } = await app.sell(ana, 'pro', 30)
    assert.equal((await app.asAdmin('POST', `/users/${ana.id}/suspend`)).body.status, 'paused')
    const denied = await app.newJob(ana)
    assert.deepEqual([denied.status, denied.body.reason], [403, 'subscription_inactive'])
    const { body } = await app.asAdmin('POST', `/users/${ana.id}/resume`)
    assert.deepEqual([body.plan, body.status, body.expiresAt], ['pro', 'active', expiresAt])
    assert.equal((await app.newJob(ana)).status, 201)
    assert.equal((await app.asAdmin('POST', '/users/nobody@example.com/suspend')).status, 404)
  })

  test('what was used is reset, of one metric', async t => {
    const app = await serve(t, { url: url() })
    const ana = await app.register('ana')
    await app.newJob(ana, { storage_mb: 5 })
    const [jobs] = (await app.asAdmin('POST', `/users/${ana.id}/reset`, { metric: 'jobs' })).body
    assert.deepEqual([jobs.metric, jobs.used, (await app.quota(ana, 'storage_mb')).used], ['jobs', 0, 5])
  })

  test('a user who is removed is out at once, and who did what is on record', async t => {
    const app = await serve(t, { url: url() })
    const bob = await app.register('bob')
    await app.sell(bob, 'pro')
    assert.equal((await app.newJob(bob)).status, 201)
    assert.equal((await app.asAdmin('DELETE', `/users/${bob.id}`)).status, 204)
    for (const token of [bob.token, bob.apiKey]) assert.equal((await app.newJob({ token })).status, 401)
    const again = { body: { email: bob.id, password: 'correct horse' }, from: '192.0.2.1' }
    assert.equal((await app.ask('POST', '/v1/login', again)).status, 401)
    assert.equal((await app.ask('POST', '/v1/register', again)).status, 409)
    const { body } = await app.asAdmin('GET', `/audit?user=${bob.id}`)
    assert.deepEqual(body.map(({ name, actor }) => [name, actor]), [
      ['subscription_changed', 'admin:root'],
      ['token_forgotten', 'admin:root'],
      ['subscription_changed', 'admin:root'],
      ['subscription_changed', 'registration'],
    ])
    const { body: later } = await app.asAdmin('GET', `/audit?user=${bob.id}&after=${body[2].sequence}`)
    assert.deepEqual(later.map(({ sequence }) => sequence), [body[1].sequence, body[0].sequence])
  })

  test('plans and metrics are public, and name no user', async t => {
    const app = await serve(t, { url: url() })
    await app.newJob(await app.register('ana'))
    const { plans } = (await app.ask('GET', '/v1/plans')).body
    assert.deepEqual(plans.map(({ id, prices }) => [id, prices.monthly]), [
      ['free', 'USD 0.00'], ['pro', 'USD 19.99'], ['enterprise', 'USD 99.99'],
    ])
    const metrics = await app.ask('GET', '/metrics')
    assert.match(metrics.field('content-type'), /^application\/openmetrics-text/)
    assert.match(metrics.text, /quotum_decisions_total\{verb="admit",outcome="allowed",reason="",plan="free"\}/)
    assert.ok(!metrics.text.includes('ana'))
  })
})
