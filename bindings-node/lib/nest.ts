// Quotas for Nest, on Express and on Fastify: a module, a guard and decorators.

import 'reflect-metadata'

import type { IncomingHttpHeaders, ServerResponse } from 'node:http'

import {
  Catch, createParamDecorator, HttpException, Inject, Injectable, Module,
  type ArgumentsHost, type CanActivate, type DynamicModule, type ExceptionFilter, type ExecutionContext,
  type FactoryProvider, type ModuleMetadata, type Provider,
} from '@nestjs/common'
import { ApplicationConfig } from '@nestjs/core'

import { admissionOf, admit, Gate, type Admission as Admitted, type Answer, type Engine, type GateOptions } from './gate.js'
import type { FeatureValue, Names } from './names.js'
import { Quota } from './quota.js'
import type { RateKey } from './request.js'
import { fielded, letGoAfter, refuse, tell, type Reply } from './response.js'
import { Asking, Verbs, type CostParts, type Part, type ReserveRule, type Rule } from './rule.js'

export { admissionOf } from './gate.js'
export type { Admission as Admitted, Answer, Engine } from './gate.js'
export { byAddress } from './rule.js'
export type { Client } from './rule.js'

/** A request, of Express or of Fastify. */
export interface NestRequest {
  /** Its header fields. */
  readonly headers: IncomingHttpHeaders
  /** Its connection. */
  readonly socket: {
    /** The address of its other end. */
    readonly remoteAddress?: string | undefined
  }
}

/** What every request to a handler, or to all of a controller's, asks for. */
export type NestRule<N extends Names = Names> = Rule<NestRequest, N>

/** What can be chosen, besides what the gate knows. */
export interface QuotumModuleOptions extends GateOptions<NestRequest> {
  /** The engine, or the promise of one. Whoever opens it closes it. */
  readonly quota: Engine
  /** What the guard asks for every handler without `@SkipQuotas()`, before what its decorators ask. */
  readonly default?: NestRule | readonly NestRule[]
}

/** How the options are found where they need other providers. */
export interface QuotumModuleAsyncOptions {
  /** The modules of those providers. */
  readonly imports?: NonNullable<ModuleMetadata['imports']>
  /** Those providers, as arguments of `useFactory`. */
  readonly inject?: NonNullable<FactoryProvider['inject']>
  /** Finds the options. */
  readonly useFactory: FactoryProvider<QuotumModuleOptions>['useFactory']
}

/** A decorator of a handler, or of a controller for all of its handlers. */
export type QuotumDecorator = MethodDecorator & ClassDecorator

const OPTIONS = Symbol('quotum.options')
const FILTER = Symbol('quotum.filter')
const RULES = Symbol('quotum.rules')
const SKIPPED = Symbol('quotum.skipped')

/** Where what is decorated keeps what a decorator says: a handler's own function, or the class. */
const placeOf = (target: object, descriptor?: PropertyDescriptor): object =>
  (descriptor?.value as object | undefined) ?? target

const rulesOf = (place: object): readonly Asking<NestRequest>[] =>
  (Reflect.getMetadata(RULES, place) as readonly Asking<NestRequest>[] | undefined) ?? []

class Decorators<N extends Names> extends Verbs<NestRequest, N, QuotumDecorator> {
  /** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
  override admit (rule: NestRule<N>): QuotumDecorator {
    const asking = new Asking<NestRequest>(rule as NestRule)
    return (target: object, _key?: string | symbol, descriptor?: PropertyDescriptor): void => {
      const place = placeOf(target, descriptor)
      // The lowest decorator comes first, and is to be asked last.
      Reflect.defineMetadata(RULES, [asking, ...rulesOf(place)], place)
    }
  }
}

const decorators = new Decorators<never>() as unknown as Decorators<Names>

/** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
export function Admit<N extends Names = Names> (rule: NestRule<N>): QuotumDecorator {
  return decorators.admit(rule as NestRule)
}

/** Charges every cost, or none. */
export function Consume<N extends Names = Names> (
  costs: CostParts<NestRequest, N>, options?: Pick<NestRule, 'idempotencyKey'>,
): QuotumDecorator {
  return decorators.consume(costs as CostParts<NestRequest>, options)
}

/** Requires a feature of the caller's plan, or as much of it as `value`. */
export function Require<N extends Names = Names> (
  feature: N['feature'], value?: Part<NestRequest, FeatureValue>,
): QuotumDecorator {
  return decorators.require(feature, value)
}

/** Counts on a scope's rate: for the caller, or for a key, such as {@link byAddress}. */
export function Rate<N extends Names = Names> (
  scope: N['scope'], key?: Part<NestRequest, RateKey>, cost?: Part<NestRequest, number>,
): QuotumDecorator {
  return decorators.rate(scope, key, cost)
}

/** Sets costs aside, for a handler that commits what was really used: see `@Admission()`. */
export function Reserve<N extends Names = Names> (
  costs: CostParts<NestRequest, N>, options: ReserveRule<NestRequest, N>,
): QuotumDecorator {
  return decorators.reserve(costs as CostParts<NestRequest>, options as ReserveRule<NestRequest>)
}

/** Has nothing asked for a handler, or for all of a controller's. */
export function SkipQuotas (): QuotumDecorator {
  return (target: object, _key?: string | symbol, descriptor?: PropertyDescriptor): void => {
    Reflect.defineMetadata(SKIPPED, true, placeOf(target, descriptor))
  }
}

/** A handler's parameter: how its request was let in, as `Admitted`. */
export const Admission: () => ParameterDecorator = createParamDecorator(
  (_: unknown, context: ExecutionContext): Admitted => admissionOf(context.switchToHttp().getRequest<object>()),
)

/**
 * What the guard throws where a request is denied or could not be decided. Its response is a problem document; the header
 * fields have been set.
 */
export class QuotumException extends HttpException {
  /** What is sent. */
  readonly answer: Answer

  constructor (answer: Answer) {
    const problem = JSON.parse(answer.body) as Record<string, unknown>
    super(problem, answer.status, answer.error === null ? {} : { cause: answer.error })
    this.answer = answer
  }
}

/** Sends problem documents as what they are: Nest would say that they are any JSON. */
class QuotumFilter implements ExceptionFilter<QuotumException> {
  catch (exception: QuotumException, host: ArgumentsHost): void {
    refuse(host.switchToHttp().getResponse<ServerResponse | Reply>(), exception.answer)
  }
}

/** Asks for requests what their handlers' decorators say. For `APP_GUARD`, or for `@UseGuards()`. */
export class QuotumGuard implements CanActivate {
  readonly #gate: Gate<NestRequest>
  readonly #first: readonly Asking<NestRequest>[]

  constructor (quota: Quota, options: QuotumModuleOptions) {
    const { quota: _, default: always = [], ...general } = options
    this.#gate = new Gate<NestRequest>(quota, general, ({ headers, socket }) => ({ headers, peer: socket.remoteAddress }))
    this.#first = [always].flat().map(rule => new Asking(rule as NestRule))
  }

  /** Whether a request is let in; a denial is thrown. */
  async canActivate (context: ExecutionContext): Promise<boolean> {
    const places = [context.getClass(), context.getHandler()]
    if (places.some(place => Reflect.hasMetadata(SKIPPED, place))) return true
    const rules = places.flatMap(rulesOf)
    if (context.getType() !== 'http') {
      if (rules.length === 0 && this.#first.length === 0) return true
      const kind = context.getType<string>()
      const mend = 'ask the engine in the handler, and put @SkipQuotas() on it'
      throw new Error(`quotas are asked for HTTP requests, and not for those of ${kind}: ${mend}`)
    }
    for (const rule of [...this.#first, ...rules]) await this.#letIn(context, rule)
    return true
  }

  async #letIn (context: ExecutionContext, rule: Asking<NestRequest>): Promise<void> {
    const http = context.switchToHttp()
    const request = http.getRequest<NestRequest>()
    const response = http.getResponse<ServerResponse | Reply>()
    const fields = 'raw' in response ? fielded(response) : response
    const outcome = await this.#gate.ask(request, rule)
    // First of all: whatever goes wrong, what is reserved is given back.
    if (outcome.admission !== null) letGoAfter('raw' in response ? response.raw : response, outcome.admission)
    tell(fields, outcome)
    if (outcome.answer !== null) throw new QuotumException(outcome.answer)
    if (outcome.admission !== null) admit(request, outcome.admission)
  }
}

/**
 * The module, for all modules of an app. It provides the guard, and the engine as `Quota`.
 *
 * ```ts
 * @Module({
 *   imports: [QuotumModule.forRoot({ quota: Quota.open('sqlite:quota.db', { plans: 'plans.toml' }) })],
 *   providers: [{ provide: APP_GUARD, useClass: QuotumGuard }],
 * })
 * class AppModule {}
 *
 * @Controller()
 * class SearchController {
 *   @Get('search') @Consume({ searches: 1 })
 *   search (@Admission() { decision }: Admitted) { … }
 *
 *   @Post('login') @Rate('login', byAddress)
 *   login () { … }
 *
 *   @Get('health') @SkipQuotas()
 *   health () { … }
 * }
 * ```
 */
export class QuotumModule {
  /** The module, with these options. */
  static forRoot (options: QuotumModuleOptions): DynamicModule {
    return moduleOf({ provide: OPTIONS, useValue: options })
  }

  /** The module, with options that other providers are needed for. */
  static forRootAsync ({ imports = [], inject = [], useFactory }: QuotumModuleAsyncOptions): DynamicModule {
    return { ...moduleOf({ provide: OPTIONS, inject, useFactory }), imports }
  }
}

function moduleOf (options: Provider): DynamicModule {
  // An engine that cannot be opened keeps the app from starting.
  const opened = async ({ quota }: QuotumModuleOptions): Promise<Quota> => await quota
  const engine: Provider = { provide: Quota, inject: [OPTIONS], useFactory: opened }
  // The last of filters is the first to be asked: one of the app's own, for all exceptions or these only, comes before it.
  const filtering = (config: ApplicationConfig): unknown => config.getGlobalFilters().unshift(new QuotumFilter())
  const filter: Provider = { provide: FILTER, inject: [ApplicationConfig], useFactory: filtering }
  const providers = [options, engine, filter, QuotumGuard]
  return { module: QuotumModule, global: true, providers, exports: [OPTIONS, Quota, QuotumGuard] }
}

// What decorators say of classes, said without them: not every compiler has them.
Injectable()(QuotumGuard)
Inject(Quota)(QuotumGuard, undefined, 0)
Inject(OPTIONS)(QuotumGuard, undefined, 1)
Catch(QuotumException)(QuotumFilter)
Module({})(QuotumModule)
