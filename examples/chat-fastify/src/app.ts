// The app: its engine, and its routes.

import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { Plans, Quota, QuotumError, type ManualClock } from 'quotum'
import { fastifyQuotas } from 'quotum/fastify'
import { Mapping } from 'quotum/http'

import { accounts } from './account.js'
import { chats } from './chat.js'
import { echo, type Model } from './model.js'
import type { ChatNames } from './names.js'
import type { Settings } from './settings.js'
import { tiers } from './tiers.js'

/** What else there is to an app: how it logs and, for a test, a model and a clock of its own. */
export interface AppOptions {
  readonly logger?: FastifyServerOptions['logger']
  readonly model?: Model
  readonly clock?: ManualClock
}

export async function createApp (settings: Settings, options: AppOptions = {}): Promise<FastifyInstance> {
  const { logger = false, model = echo(settings.modelPauseMs), clock } = options
  const app: FastifyInstance = Fastify({ logger })
  const plans = await Plans.read(settings.plans)
  const quota = await Quota.open<ChatNames>(settings.quotumUrl, {
    plans,
    verifier: key => settings.keys.get(key),
    storeTimeoutMs: settings.storeTimeoutMs,
    onEvent: event => { app.log.info({ event }, event.name) },
    // The usage statistics are read from the store's log.
    logEvents: 'all',
    ...(clock === undefined ? {} : { clock }),
  })
  app.addHook('onClose', async () => { await quota.close() })

  // Handlers ask the engine too: where it cannot tell, they answer as the plugin does.
  const mapping = new Mapping()
  app.setErrorHandler((error, request, reply) => {
    if (!(error instanceof QuotumError)) return reply.send(error)
    request.log.error(error)
    const { fields, denied } = mapping.answerError(error)
    for (const [name, value] of fields) reply.header(name, value)
    return reply.code(denied?.status ?? 500).type(denied?.contentType ?? 'text/plain').send(denied?.body)
  })

  // What a message costs is known once its body is read.
  await app.register(fastifyQuotas, { quota, hook: 'preHandler' })
  await app.register(async api => {
    chats(api, model, settings)
    accounts(api, quota, plans)
    tiers(api, plans)
  }, { prefix: '/api' })
  return app
}
