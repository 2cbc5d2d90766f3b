// A worker thread with an engine of its own, which consumes for as long as it is told.

import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'

import { trying } from './decisions.mjs'
import { leased } from './engine.mjs'
import { Asks, uniform } from './measure.mjs'

/** How many calls are made between two looks at the clock. */
const CHUNK = 1_024

const { url, ids } = workerData
const quota = await leased(url, ids)
const asks = new Asks(ids, uniform(ids.length))
const { loop } = trying(quota, asks)
const chunks = Array.from({ length: 64 }, (_, number) => asks.some(Infinity).slice(number * CHUNK, (number + 1) * CHUNK))
for (const chunk of chunks) await loop(chunk)
parentPort.postMessage('ready')

for (;;) {
  const [{ passMs, isEnd }] = await once(parentPort, 'message')
  if (isEnd) break
  const begin = performance.now()
  let done = 0
  for (; performance.now() - begin < passMs; done++) await loop(chunks[done % chunks.length])
  parentPort.postMessage(done * CHUNK)
}
await quota.close()
parentPort.close()
