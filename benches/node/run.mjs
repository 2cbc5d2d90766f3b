// Measures Quotum beside its peers in Node, in one run, and prints ratios beside the goals.
//
//     npm ci && node run.mjs
//     node run.mjs --quick                # in seconds; its figures are rough
//     node run.mjs --only rates tokens
//
// The quotum of ../../bindings-node is measured, as it was built last. A goal that is missed is told and fails nothing.

import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { decisions } from './decisions.mjs'
import { denials } from './denials.mjs'
import { folders, leased, subjects } from './engine.mjs'
import { eventLoop } from './event-loop.mjs'
import { SEED } from './measure.mjs'
import { rates } from './rates.mjs'
import { redisCharges } from './redis-charges.mjs'
import { sqliteCharges } from './sqlite-charges.mjs'
import { tokens } from './tokens.mjs'
import { workers } from './workers.mjs'

const THEMES = { rates, decisions, denials, tokens, sqlite: sqliteCharges, redis: redisCharges, loop: eventLoop, workers }

const FULL = { rounds: 7, passMs: 80, subjects: 10_000, part: 1 }
const QUICK = { rounds: 3, passMs: 10, subjects: 200, part: 0.02 }

await main()

/** Everything, or what is asked for. */
async function main () {
  const options = { quick: { type: 'boolean' }, only: { type: 'boolean' } }
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  const asked = values.only ? positionals : Object.keys(THEMES)
  const unknown = asked.filter(theme => THEMES[theme] === undefined)
  if (unknown.length > 0) throw new Error(`no theme ${unknown.join(', ')}: there are ${Object.keys(THEMES).join(', ')}`)
  const scale = values.quick ? QUICK : FULL
  const begin = performance.now()
  head(scale)
  const rows = []
  for await (const folder of folders()) {
    const quota = await leased(`sqlite:${join(folder, 'quota.db')}`, subjects(scale.subjects))
    for (const theme of asked) {
      for await (const result of THEMES[theme](scale, quota)) {
        tell(result)
        rows.push(...result.rows)
      }
    }
    await quota.close()
  }
  end(rows)
  console.log(`\n${((performance.now() - begin) / 1_000).toFixed(0)} s in all`)
}

/** What is measured, and how. */
function head (scale) {
  const peers = ['rate-limiter-flexible', 'express-rate-limit', 'lru-cache', 'better-sqlite3', 'ioredis']
  console.log(`quotum ${version('quotum')} beside ${peers.map(peer => `${peer} ${version(peer)}`).join(', ')}`)
  console.log(`Node ${process.versions.node}, ${availableParallelism()} processors`)
  const measured = `${scale.subjects.toLocaleString('en')} subjects, medians of ${scale.rounds} rounds of ${scale.passMs} ms each`
  console.log(`seed 0x${SEED.toString(16)}, ${measured}`)
  console.log('microseconds a call; below 1x is faster than the peer\n')
  console.log(`${'what'.padEnd(38)}${'quotum'.padStart(10)} : ${'peer'.padEnd(10)}${'ratio'.padStart(9)}   beside`)
}

function version (name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), 'utf8')).version
}

/** What was found, as soon as it is. */
function tell ({ rows, notes }) {
  for (const [index, { what, oursUs, peer, peerUs, ratio }] of rows.entries()) {
    const times = `${oursUs.toFixed(3).padStart(10)} : ${peerUs.toFixed(3).padEnd(10)}`
    console.log(`${(index === 0 ? what : '').padEnd(38)}${times}${`(${ratio.toFixed(3)}x)`.padStart(10)}  ${peer}`)
  }
  for (const note of notes) console.log(`    ${note}`)
}

/** All ratios, and every goal. */
function end (rows) {
  console.log('\nratios')
  for (const what of new Set(rows.map(row => row.what))) {
    const ratios = rows.filter(row => row.what === what).map(({ ratio, peer }) => `${ratio.toFixed(3)}x of ${peer}`)
    console.log(`  ${what.padEnd(42)}${ratios.join('; ')}`)
  }
  console.log('\ngoals')
  for (const { what, text, found, isMet } of rows.flatMap(row => row.goals)) {
    console.log(`  ${isMet ? 'met   ' : 'missed'}  ${what.padEnd(42)}${text.padEnd(44)}${found.padStart(12)}`)
  }
}
