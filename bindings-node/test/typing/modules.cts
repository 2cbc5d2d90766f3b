// Every module of the package, from CommonJS.
import quotum = require('quotum')
import http = require('quotum/http')
import testing = require('quotum/testing')

class MyStore implements testing.Store {
  readonly entries = new Map<string, Uint8Array>()

  async begin (): Promise<testing.Transaction> {
    return {
      get: key => this.entries.get(String(key)),
      scan: () => [],
      put: (key, value) => { this.entries.set(String(key), value) },
      delete: key => { this.entries.delete(String(key)) },
      commit: () => {},
      rollback: () => {},
    }
  }
}

async function main (): Promise<void> {
  const rules: readonly string[] = await testing.checkStore(() => new MyStore())
  const quota: quotum.Quota = await quotum.Quota.open(new MyStore(), {
    plans: quotum.Plans.fromToml('default_plan = "a"\n[plans.a]'),
    clock: new quotum.ManualClock(new Date()),
    verifier: async token => ({ subject: token, expiresAt: new Date() }),
    onEvent: event => { console.log(event.name === 'quota_exhausted', event.at.getTime()) },
  })
  const mapping = new http.Mapping({ statuses: { quota_exhausted: 402 }, fields: 'both' })
  const answer: http.HttpAnswer = mapping.answer(await quota.consume('user-42', { searches: 1 }))
  for (const [name, value] of answer.fields) console.log(name.toLowerCase(), value.length)
  // @ts-expect-error there is no such reason
  new http.Mapping({ statuses: { exhausted: 402 } })
  // @ts-expect-error an option is misspelt
  await quotum.Quota.open('memory:', { plan: 'plans.toml' })
  console.log(rules.length)
}

void main()
