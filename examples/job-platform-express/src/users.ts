// Users, sessions and API keys. No password and no token is kept, only their digests.

import { createHash, randomBytes, scrypt, timingSafeEqual, type BinaryLike } from 'node:crypto'
import { promisify } from 'node:util'

import type { IdentitySource } from 'quotum'

import { Rows } from './rows.js'

/** What an API key begins with, so that people see what it is. */
export const KEY_PREFIX = 'jp_'

const SESSION_PREFIX = 'session_'

const derived = promisify<BinaryLike, BinaryLike, number, Buffer>(scrypt)
const token = (prefix: string): string => prefix + randomBytes(24).toString('base64url')
const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

interface User {
  readonly salt: string
  readonly password: string
}

interface Key {
  readonly user: string
  /** When it ceases to be valid, in milliseconds; API keys do not by themselves. */
  readonly expiresAt: number | null
}

export class Users {
  readonly #users: Rows<User>
  readonly #keys: Rows<Key>
  readonly #removed: Rows<true>
  readonly #admin: Buffer | undefined

  constructor (data: string, adminToken: string | undefined) {
    this.#users = new Rows(data, 'users')
    this.#keys = new Rows(data, 'keys')
    this.#removed = new Rows(data, 'removed')
    this.#admin = adminToken === undefined ? undefined : digest(adminToken)
  }

  /** A new user's API key; nothing where there is such a user, or was. */
  async register (id: string, password: string): Promise<string | undefined> {
    const salt = randomBytes(16).toString('hex')
    const user = { salt, password: (await derived(password, salt, 32)).toString('hex') }
    if (!await this.#users.add(id, user)) return undefined
    return await this.#issue(KEY_PREFIX, { user: id, expiresAt: null })
  }

  /** The token of a new session; nothing where user and password do not belong together. */
  async logIn (id: string, password: string, expiresAt: Date): Promise<string | undefined> {
    const user = await this.#users.find(id)
    // As much work for a user that there is not: how long it takes tells nobody who there is.
    const found = await derived(password, user?.salt ?? '', 32)
    const known = Buffer.from(user?.password ?? '00'.repeat(32), 'hex')
    if (user === undefined || !timingSafeEqual(found, known) || await this.#isRemoved(id)) return undefined
    return await this.#issue(SESSION_PREFIX, { user: id, expiresAt: expiresAt.getTime() })
  }

  /** Whom a token speaks for: what Quotum asks where its cache does not know. */
  async identityOf (given: string): Promise<IdentitySource | undefined> {
    if (this.#admin !== undefined && timingSafeEqual(digest(given), this.#admin)) {
      return { subject: 'admin:root', attributes: { role: 'admin' } }
    }
    const key = await this.#keys.find(given)
    if (key === undefined || await this.#isRemoved(key.user)) return undefined
    return { subject: key.user, expiresAt: key.expiresAt === null ? null : new Date(key.expiresAt) }
  }

  /** Lets nobody in as this user any more. What there was of it stays on record, and its address taken. */
  async remove (id: string): Promise<void> {
    await this.#removed.add(id, true)
  }

  async #isRemoved (id: string): Promise<boolean> {
    return await this.#removed.find(id) !== undefined
  }

  async #issue (prefix: string, key: Key): Promise<string> {
    const issued = token(prefix)
    await this.#keys.add(issued, key)
    return issued
  }
}
