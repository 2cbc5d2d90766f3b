// Runs the backend: `npm start`.

import { createApp } from './app.js'
import { settingsOf } from './settings.js'

const [, host = '', port = ''] = /^(.+):(\d+)$/.exec(process.env['LISTEN'] ?? '127.0.0.1:8000') ?? []
if (host === '') throw new Error('LISTEN must be an address and a port, such as 127.0.0.1:8000')
const app = await createApp(settingsOf(process.env), { logger: true })
// Answers under way are ended, and charged, before the process is. Their connections are kept for no others then.
let isEnding = false
app.addHook('onResponse', async () => { if (isEnding) app.server.closeIdleConnections() })
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    isEnding = true
    void app.close()
  })
}
await app.listen({ host, port: Number(port) })
