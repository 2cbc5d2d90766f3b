// Rows in files: stands for the backend's own database, which all of its processes share.

import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What has gone wrong with a file, in a word of the system's. */
const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException).code

/** A table. Of an id only its digest is kept, so that tokens can be ids. */
export class Rows<T> {
  readonly #folder: string

  constructor (data: string, name: string) {
    this.#folder = join(data, name)
    mkdirSync(this.#folder, { recursive: true })
  }

  #path (id: string): string {
    return join(this.#folder, createHash('sha256').update(id).digest('hex'))
  }

  /** Adds a row, where there is none. Of several who do so at once, one does. */
  async add (id: string, row: T): Promise<boolean> {
    const written = join(this.#folder, randomUUID())
    await writeFile(written, JSON.stringify(row))
    try {
      // Whoever reads it reads it whole.
      await link(written, this.#path(id))
      return true
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return false
      throw error
    } finally {
      await rm(written)
    }
  }

  async find (id: string): Promise<T | undefined> {
    try {
      return JSON.parse(await readFile(this.#path(id), 'utf8')) as T
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw error
    }
  }

  /** Takes a row away. Of several who do so at once, one gets it: nothing is given back twice. */
  async take (id: string): Promise<T | undefined> {
    const taken = join(this.#folder, randomUUID())
    try {
      await rename(this.#path(id), taken)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw error
    }
    const row = JSON.parse(await readFile(taken, 'utf8')) as T
    await rm(taken)
    return row
  }
}
