// Worker threads on different subjects, each with an engine of its own: two beside one.

import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { folders, subjects } from './engine.mjs'
import { row } from './measure.mjs'

const WORKERS = 2

/** As many subjects for each, and as many calls. */
export async function * workers (scale) {
  const ids = subjects(scale.subjects)
  for await (const folder of folders()) {
    const started = await Promise.all(Array.from({ length: WORKERS }, (_, number) => start(folder, number, ids)))
    const rounds = []
    for (let number = 0; number < scale.rounds; number++) {
      const one = await passUs(started.slice(0, 1), scale)
      const two = await passUs(started, scale)
      rounds.push([two, one])
    }
    for (const worker of started) {
      worker.postMessage({ isEnd: true })
      await once(worker, 'exit')
    }
    // Of Node there is no goal for it: this one is the core's.
    yield { rows: [row('tryConsume, leased, two workers', rounds, { name: 'quotum, one worker', ratioMax: 1 / 1.7 })], notes: [] }
  }
}

async function start (folder, number, ids) {
  const workerData = { url: `sqlite:${join(folder, `${number}.db`)}`, ids: ids.filter((_, index) => index % WORKERS === number) }
  const worker = new Worker(new URL('worker.mjs', import.meta.url), { workerData })
  await once(worker, 'message')
  return worker
}

/** What a call takes, of all the calls that workers make together. */
async function passUs (workers, { passMs }) {
  const counts = workers.map(async worker => {
    worker.postMessage({ passMs })
    const [count] = await once(worker, 'message')
    return count
  })
  const begin = performance.now()
  const total = (await Promise.all(counts)).reduce((sum, count) => sum + count)
  return (performance.now() - begin) / total * 1_000
}
