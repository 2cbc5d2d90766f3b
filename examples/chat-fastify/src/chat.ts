// Chats: what an answer may cost is reserved before the model is asked, and what it did cost is charged after it.

import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'

import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import type { Reservation, Settlement } from 'quotum'
import { admissionOf, type FastifyRule } from 'quotum/fastify'

import { warnings } from './account.js'
import { ModelFailed, tokensOf, type Model } from './model.js'
import type { ChatNames } from './names.js'
import type { Settings } from './settings.js'

/** What a user says, and how long the answer may be. */
interface Message {
  readonly prompt: string
  readonly tokens_max: number
}

const MESSAGE = {
  type: 'object',
  required: ['prompt'],
  properties: {
    prompt: { type: 'string', minLength: 1, maxLength: 20_000, pattern: '\\S' },
    tokens_max: { type: 'integer', minimum: 1, maximum: 4_000, default: 200 },
  },
}

type Asked = FastifyRequest<{ Body: Message }>

export function chats (app: FastifyInstance, model: Model, { answerMsMax, storeTimeoutMs }: Settings): void {
  const quotum: FastifyRule<ChatNames> = {
    costs: {
      messages: 1,
      // It is read, and answered.
      tokens: ({ body }: Asked) => tokensOf(body.prompt) + body.tokens_max,
    },
    // Until the last answer is charged, which may wait for the store.
    reserveMs: answerMsMax + storeTimeoutMs,
  }

  app.post<{ Body: Message }>('/chat', { schema: { body: MESSAGE }, config: { quotum } }, async (request, reply) => {
    const { decision, reservation } = admissionOf(request)
    const warned = warnings(decision.quotas)
    if (warned.length > 0) reply.header('x-quota-warning', warned.join(', '))
    // Who reads slowly must not have an answer last until nothing is held for it any more.
    const stop = AbortSignal.any([leaving(reply.raw), AbortSignal.timeout(answerMsMax)])
    // There is one: the rule says so.
    const reserved = reservation as Reservation<ChatNames>
    const events = answer(model, request.body, reserved, stop, request.log)
    return reply.type('text/event-stream; charset=utf-8').send(Readable.from(events, { signal: stop }))
  })
}

/** Tells when the client has gone away. Fastify's `request.signal` tells when the request has been read, too. */
function leaving (response: ServerResponse): AbortSignal {
  const left = new AbortController()
  const leave = (): void => { if (!response.writableFinished) left.abort() }
  if (response.destroyed) leave()
  else response.once('close', leave)
  return left.signal
}

/** The events of one answer. What it has not committed when it ends is given back. */
async function * answer (
  model: Model, message: Message, reserved: Reservation<ChatNames>, stop: AbortSignal, log: FastifyBaseLogger,
): AsyncGenerator<string> {
  let tokens = tokensOf(message.prompt)
  const charge = async (): Promise<Partial<Settlement>> => {
    try {
      return await reserved.commit({ tokens })
    } catch (error) {
      // The user has the answer. What was not charged for it is lost to us, not to the user.
      log.error(error, `an answer of ${tokens} tokens could not be charged`)
      return {}
    }
  }
  // Who hangs up is charged for what was streamed: otherwise answers would be free for whoever leaves before the last word.
  // And at once, because the plugin gives back what is still held when the response has ended.
  stop.addEventListener('abort', charge)
  let hasFailed = false
  try {
    for await (const word of model(message.prompt, message.tokens_max, stop)) {
      tokens++
      yield event('word', { text: word })
    }
  } catch (error) {
    if (!(error instanceof ModelFailed)) throw error
    hasFailed = true
  } finally {
    stop.removeEventListener('abort', charge)
  }
  if (hasFailed) {
    reserved.letGo()
    yield event('error', { detail: 'the model failed: this message is not counted' })
    return
  }
  const { consumed, overage } = await charge()
  yield event('done', { consumed, overage })
}

function event (name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}
