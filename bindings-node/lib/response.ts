// Responses of node:http: what Express, Fastify and Nest are all built on.

import type { ServerResponse } from 'node:http'

import { merged, type Admission, type Answer, type Outcome } from './gate.js'

/** Where header fields are set: a response of node:http, or what a framework has in its place. */
export interface Fielded {
  readonly headersSent: boolean
  getHeader (name: string): number | string | string[] | undefined
  setHeader (name: string, value: string): unknown
}

/** What Fastify has in place of a response. */
export interface Reply {
  readonly raw: ServerResponse
  getHeader (name: string): number | string | string[] | undefined
  header (name: string, value: string): unknown
  code (status: number): unknown
  send (body: Buffer): unknown
}

/** A reply, as fields are set on it. */
export function fielded (reply: Reply): Fielded {
  return {
    headersSent: reply.raw.headersSent,
    getHeader: name => reply.getHeader(name),
    setHeader: (name, value) => reply.header(name, value),
  }
}

/** Tells the client of its limits, unless somebody else has answered meanwhile. */
export function tell (response: Fielded, { fields, answer }: Outcome): void {
  if (response.headersSent) return
  for (const [name, value] of fields) {
    const there = response.getHeader(name)
    response.setHeader(name, merged(name, value, there === undefined ? undefined : String(there), answer))
  }
}

/** Sends an answer. */
export function send (response: ServerResponse, status: number, contentType: string, body: string): void {
  response.statusCode = status
  response.setHeader('content-type', contentType)
  response.setHeader('content-length', Buffer.byteLength(body))
  response.end(body)
}

/** Sends an answer in place of what was asked for, whose fields have been told. */
export function refuse (response: ServerResponse | Reply, { status, contentType, body }: Answer): void {
  if (!('raw' in response)) {
    send(response, status, contentType, body)
    return
  }
  response.code(status)
  response.header('content-type', contentType)
  // A text would be given a character set, which JSON does not have.
  response.send(Buffer.from(body))
}

/** Gives back what was reserved for a response, once that has been sent, has failed, or nobody waits for it any more. */
export function letGoAfter (response: ServerResponse, { reservation }: Admission): void {
  if (reservation === null) return
  // Not at once: whoever streams the response may have something to commit when it ends, and is told of it after this.
  const letGo = (): void => { setImmediate(() => { reservation.letGo() }) }
  if (response.closed || response.destroyed) letGo()
  else response.once('close', letGo)
}
