// Refusals: the answer where it is no, always a problem document.

import { STATUS_CODES, type ServerResponse } from 'node:http'

import type { ErrorRequestHandler } from 'express'
import type { Denial } from 'quotum'
import type { ExpressOptions } from 'quotum/express'

/** Thrown by an endpoint that does not do what it was asked to. */
export class Refusal extends Error {
  readonly status: number

  constructor (status: number, detail: string) {
    super(detail)
    this.status = status
  }
}

function refuse (response: ServerResponse, status: number, detail: string): void {
  response.statusCode = status
  response.setHeader('content-type', 'application/problem+json')
  response.end(JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status], status, detail }))
}

/** What a dearer plan has more of is for sale. */
export const FOR_SALE = { quota_exhausted: 402, never_fits: 402 } as const

/** A body that says where the client stands and where to buy more, as this platform's clients have always been told. */
function offering (body: string, denied: Denial | null | undefined): string {
  if (denied?.metric == null) return body
  const upgrade = denied.upgradeTo === null ? null : `/v1/plans?upgrade_to=${denied.upgradeTo}`
  return JSON.stringify({ ...JSON.parse(body), current: denied.used, upgrade_url: upgrade })
}

/** Answers denials with an offer. */
export const offer: NonNullable<ExpressOptions['handler']> = (_request, response, _next, { body, decision }) => {
  response.end(offering(body, decision?.denied))
}

/** Answers what endpoints throw, but for what the engine says. */
export const answerErrors: ErrorRequestHandler = (error, _request, response, next) => {
  if (response.headersSent) next(error)
  else if (Number.isInteger(error?.status) && error.status < 500) refuse(response, error.status, error.message)
  else {
    console.error(error)
    refuse(response, 500, 'something went wrong')
  }
}

/** What was sent, a JSON object. */
type Body = Record<string, unknown> | undefined

/** A text of a body. */
export function textOf (body: Body, name: string): string {
  const value = body?.[name]
  if (typeof value === 'string' && value !== '' && value.length <= 200) return value
  throw new Refusal(422, `\`${name}\` is missing, or no text`)
}

/** A whole number of a body, which has to be within limits. */
export function wholeOf (body: Body, name: string, least: number, most: number, otherwise?: number): number {
  const value = body?.[name] ?? otherwise
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    throw new Refusal(422, `\`${name}\` is to be a whole number from ${least} to ${most}`)
  }
  return value as number
}
