// Exact charges: every one is on the disk when it is answered, beside the least that could do the same.

import { join } from 'node:path'

import Database from 'better-sqlite3'
import { Quota } from 'quotum'

import { folders, PLANS, subjects } from './engine.mjs'
import { Asks, measured, together, uniform, UnexpectedError } from './measure.mjs'

export const CALLERS = 64

const SCHEMA = `
CREATE TABLE counter (subject TEXT, metric TEXT, period TEXT, start_s INTEGER, used INTEGER,
    PRIMARY KEY (subject, metric, period, start_s)) WITHOUT ROWID;
`
const CHARGE = `
INSERT INTO counter VALUES (?, 'calls', 'month', 1772323200, 1)
    ON CONFLICT DO UPDATE SET used = used + 1 WHERE used + 1 <= 1000000000
`

/** One caller and many, on files with the same settings. */
export async function * sqliteCharges (scale) {
  const ids = subjects(scale.subjects)
  const asks = new Asks(ids, uniform(ids.length))
  for await (const folder of folders()) {
    const quota = await Quota.open(`sqlite:${join(folder, 'quota.db')}`, { plans: PLANS, lease: 'off' })
    const { charge, close } = raw(join(folder, 'raw.db'))
    // It holds up the event loop for as long as each takes, so that many callers are no more than one.
    const peers = [{ name: 'better-sqlite3, conditional upsert', loop: ids => ids.forEach(charge), asks }]
    for (const [callers, how] of [[1, 'one caller'], [CALLERS, `${CALLERS} at once`]]) {
      yield await measured({ what: `exact charge on SQLite, ${how}`, ours: charging(quota, asks, callers), peers }, scale)
    }
    close()
    await quota.close()
  }
}

/** A quota of a month, by so many callers at once. */
export function charging (quota, asks, callers) {
  const loop = async ids => {
    for (const id of ids) {
      if (!(await quota.consume(id, { calls: 1 })).allowed) throw new UnexpectedError(id)
    }
  }
  const ask = async id => {
    if (!(await quota.consume(id, { calls: 1 })).allowed) throw new UnexpectedError(id)
  }
  return { name: 'quotum', loop: callers === 1 ? loop : together(ask, callers), asks }
}

/** A conditional upsert, a transaction each. */
export function raw (file) {
  const database = new Database(file)
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = FULL')
  database.exec(SCHEMA)
  const upsert = database.prepare(CHARGE)
  const charge = id => {
    if (upsert.run(id).changes !== 1) throw new UnexpectedError(id)
  }
  return { charge, close: () => database.close() }
}
