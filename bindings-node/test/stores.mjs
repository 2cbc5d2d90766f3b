// Stores of one's own, as a host might write them.
import { ConflictedError } from 'quotum'

const compare = (a, b) => Buffer.compare(a, b)

/** Entries by key, in the order of the keys' bytes. */
class Entries {
  #keys = []
  #values = new Map()

  get (key) {
    return this.#values.get(Buffer.from(key).toString('latin1'))
  }

  scan (start, end, limit) {
    const found = this.#keys.filter(key => compare(key, start) >= 0 && compare(key, end) < 0)
    return found.slice(0, limit).map(key => [key, this.get(key)])
  }

  put (key, value) {
    const name = Buffer.from(key).toString('latin1')
    if (!this.#values.has(name)) {
      const at = this.#keys.findIndex(known => compare(known, key) > 0)
      this.#keys.splice(at < 0 ? this.#keys.length : at, 0, Buffer.from(key))
    }
    this.#values.set(name, Buffer.from(value))
  }

  delete (key) {
    if (!this.#values.delete(Buffer.from(key).toString('latin1'))) return
    this.#keys.splice(this.#keys.findIndex(known => compare(known, key) === 0), 1)
  }
}

/** One transaction after the other, by methods that return promises. */
export class LockedStore {
  entries = new Entries()
  #last = Promise.resolve()

  async begin () {
    const before = this.#last
    let end
    this.#last = new Promise(resolve => { end = resolve })
    await before
    return new Transaction(this.entries, end)
  }
}

class Transaction {
  writes = []

  constructor (entries, end) {
    Object.assign(this, { entries, end })
  }

  async get (key) {
    return this.entries.get(key)
  }

  async scan (start, end, limit) {
    return this.entries.scan(start, end, limit)
  }

  async put (key, value) {
    this.writes.push(() => this.entries.put(key, value))
  }

  async delete (key) {
    this.writes.push(() => this.entries.delete(key))
  }

  async commit () {
    for (const write of this.writes) write()
    this.end()
  }

  async rollback () {
    this.end()
  }
}

/** Several transactions at once, by methods that answer at once: whoever comes second is told of the conflict. */
export class OptimisticStore {
  entries = new Entries()
  version = 0

  begin () {
    const { entries, version } = this
    const writes = []
    return {
      get: key => this.#current(version, entries.get(key)),
      scan: (start, end, limit) => this.#current(version, entries.scan(start, end, limit)),
      put: (key, value) => { writes.push(() => entries.put(key, value)) },
      delete: key => { writes.push(() => entries.delete(key)) },
      commit: () => {
        this.#current(version)
        if (writes.length > 0) this.version++
        for (const write of writes) write()
      },
      rollback: () => {},
    }
  }

  #current (version, value) {
    if (version !== this.version) throw new ConflictedError()
    return value
  }
}
