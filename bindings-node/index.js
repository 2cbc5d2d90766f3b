import { createRequire } from 'node:module'

const native = createRequire(import.meta.url)('./quotum.node')

/** The engine: asks a store, decides by the plans. */
export class Quota {
  #engine

  constructor (engine) {
    this.#engine = engine
  }

  static open (url, { plans }) {
    return new Quota(native.open(url, plans))
  }

  async consume (subject, costs) {
    return Object.freeze(await native.consume(this.#engine, subject, costs))
  }
}
