// Several processes of the app, as its README runs it, on one store.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { ADMIN, Client, onEveryStore, statusesOf } from './client.mjs'
import { freePort, listens, newFolder, started } from './servers.mjs'

const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url))

onEveryStore(({ url }) => {
  test('two processes grant exactly the limit together, and one that is killed loses nothing that was used', async t => {
    const [at, { folder, remove }] = [url(), newFolder()]
    t.after(remove)
    const begin = async () => {
      const port = await freePort()
      const settings = { QUOTUM_URL: at, DATA: `${folder}/data`, ADMIN_TOKEN: ADMIN, LISTEN: `127.0.0.1:${port}` }
      const env = { ...process.env, ...settings }
      const { stop } = await started(process.execPath, [SERVER], { cwd: folder, env }, () => listens(port))
      t.after(() => stop('SIGTERM'))
      return Object.assign(new Client(`http://127.0.0.1:${port}`), { stop })
    }
    const processes = [await begin(), await begin()]
    const [one, other] = processes
    const ana = await one.register('ana')
    assert.equal((await other.ask('POST', '/v1/register', { body: { email: ana.id, password: 'other' } })).status, 409)

    const files = Array.from({ length: 60 }, (_, file) => processes[file % 2].store(ana, `file-${file}`, 5))
    assert.deepEqual(await statusesOf(files), { 201: 20, 402: 40 })

    await one.stop('SIGKILL')
    assert.equal((await other.store(ana, 'more', 1)).status, 402)
    const again = await begin()
    assert.equal((await again.quota(ana, 'storage_mb')).used, 100)
    assert.equal((await again.store(ana, 'more', 1)).status, 402)
    const { body: [{ actor }] } = await again.asAdmin('GET', '/audit')
    assert.equal(actor, 'registration')
  })
})
