// For tests: stores of one's own, and how to find out that they are right.

import { refusedValue } from './argument.js'
import { addon, home } from './addon.js'
import { answering, register, unregister } from './functions.js'
import { begun } from './tasks.js'
import { isStore, registerStore, type Awaitable, type Store } from './store.js'

export { ManualClock } from './clock.js'
export type { Awaitable, Store, Transaction } from './store.js'

/**
 * Runs the conformance suite: every rule that a store keeps, each on a new and empty one that `factory` returns. Resolves to
 * the names of the rules, and rejects with an error that tells every one that is broken.
 *
 * ```js
 * import { checkStore } from 'quotum/testing'
 *
 * test('my store is a store', () => checkStore(() => new MyStore()))
 * ```
 */
export async function checkStore (factory: () => Awaitable<Store>): Promise<readonly string[]> {
  const functions: number[] = []
  let failure: { readonly thrown: unknown } | undefined
  const make = async (): Promise<number> => {
    try {
      const store = await factory()
      if (!isStore(store)) throw refusedValue('factory', store, 'a function that returns a store, with a method `begin`')
      functions.push(registerStore(store))
      return functions.at(-1) as number
    } catch (thrown) {
      failure ??= { thrown }
      throw thrown
    }
  }
  functions.push(register(answering(make, number => number)))
  try {
    const outcomes = await begun(addon.checkStore(home, functions[0] as number), told => told as { rule: string, broken: string | null }[])
    if (failure !== undefined) throw failure.thrown
    const broken = outcomes.filter(outcome => outcome.broken !== null)
    if (broken.length > 0) {
      const told = broken.map(({ rule, broken }) => `  ${rule}: ${broken ?? ''}`)
      throw new Error(`the store breaks ${broken.length} of ${outcomes.length} rules:\n${told.join('\n')}`)
    }
    return outcomes.map(outcome => outcome.rule)
  } finally {
    unregister(functions)
  }
}
