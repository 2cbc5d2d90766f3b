// The server: the app of a deployment, until it is told to stop.

import { once } from 'node:events'
import { createServer } from 'node:http'

import { createApp } from './app.js'
import { openPlatform } from './platform.js'
import { settingsOf } from './settings.js'

const settings = settingsOf(process.env)
const platform = await openPlatform(settings)
const server = createServer(createApp(platform))
const { hostname, port } = new URL(`http://${settings.listen}`)
server.listen(Number(port || 80), hostname)
await once(server, 'listening')
console.log(`job-platform listens on http://${settings.listen}`)

// Requests under way are answered, and what the engine has leased is returned.
await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
server.close()
server.closeIdleConnections()
await once(server, 'close')
await platform.quota.close()
