// A worker thread or process that charges until it is denied, and says how often it was not.
import { parentPort, workerData } from 'node:worker_threads'

import { Quota } from 'quotum'

const { url, plans, callers, subject } = workerData ?? JSON.parse(process.env.WORK)
const quota = await Quota.open(url, { plans })

async function charge () {
  let granted = 0
  while ((await quota.consume(subject, { units: 1 })).allowed) granted++
  return granted
}

const granted = await Promise.all(Array.from({ length: callers }, charge))
await quota.close()
const total = granted.reduce((sum, one) => sum + one, 0)
if (parentPort !== null) parentPort.postMessage(total)
else process.send(total, () => process.disconnect())
