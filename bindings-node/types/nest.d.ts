import 'reflect-metadata';
import type { IncomingHttpHeaders } from 'node:http';
import { HttpException, type CanActivate, type DynamicModule, type ExecutionContext, type FactoryProvider, type ModuleMetadata } from '@nestjs/common';
import { type Answer, type Engine, type GateOptions } from './gate.js';
import type { FeatureValue, Names } from './names.js';
import { Quota } from './quota.js';
import type { RateKey } from './request.js';
import { type CostParts, type Part, type ReserveRule, type Rule } from './rule.js';
export { admissionOf } from './gate.js';
export type { Admission as Admitted, Answer, Engine } from './gate.js';
export { byAddress } from './rule.js';
export type { Client } from './rule.js';
/** A request, of Express or of Fastify. */
export interface NestRequest {
    /** Its header fields. */
    readonly headers: IncomingHttpHeaders;
    /** Its connection. */
    readonly socket: {
        /** The address of its other end. */
        readonly remoteAddress?: string | undefined;
    };
}
/** What every request to a handler, or to all of a controller's, asks for. */
export type NestRule<N extends Names = Names> = Rule<NestRequest, N>;
/** What can be chosen, besides what the gate knows. */
export interface QuotumModuleOptions extends GateOptions<NestRequest> {
    /** The engine, or the promise of one. Whoever opens it closes it. */
    readonly quota: Engine;
    /** What the guard asks for every handler without `@SkipQuotas()`, before what its decorators ask. */
    readonly default?: NestRule | readonly NestRule[];
}
/** How the options are found where they need other providers. */
export interface QuotumModuleAsyncOptions {
    /** The modules of those providers. */
    readonly imports?: NonNullable<ModuleMetadata['imports']>;
    /** Those providers, as arguments of `useFactory`. */
    readonly inject?: NonNullable<FactoryProvider['inject']>;
    /** Finds the options. */
    readonly useFactory: FactoryProvider<QuotumModuleOptions>['useFactory'];
}
/** A decorator of a handler, or of a controller for all of its handlers. */
export type QuotumDecorator = MethodDecorator & ClassDecorator;
/** Asks for everything at once: a rate, features and costs, of which all are granted or nothing is charged. */
export declare function Admit<N extends Names = Names>(rule: NestRule<N>): QuotumDecorator;
/** Charges every cost, or none. */
export declare function Consume<N extends Names = Names>(costs: CostParts<NestRequest, N>, options?: Pick<NestRule, 'idempotencyKey'>): QuotumDecorator;
/** Requires a feature of the caller's plan, or as much of it as `value`. */
export declare function Require<N extends Names = Names>(feature: N['feature'], value?: Part<NestRequest, FeatureValue>): QuotumDecorator;
/** Counts on a scope's rate: for the caller, or for a key, such as {@link byAddress}. */
export declare function Rate<N extends Names = Names>(scope: N['scope'], key?: Part<NestRequest, RateKey>, cost?: Part<NestRequest, number>): QuotumDecorator;
/** Sets costs aside, for a handler that commits what was really used: see `@Admission()`. */
export declare function Reserve<N extends Names = Names>(costs: CostParts<NestRequest, N>, options: ReserveRule<NestRequest, N>): QuotumDecorator;
/** Has nothing asked for a handler, or for all of a controller's. */
export declare function SkipQuotas(): QuotumDecorator;
/** A handler's parameter: how its request was let in, as `Admitted`. */
export declare const Admission: () => ParameterDecorator;
/**
 * What the guard throws where a request is denied or could not be decided. Its response is a problem document; the header
 * fields have been set.
 */
export declare class QuotumException extends HttpException {
    /** What is sent. */
    readonly answer: Answer;
    constructor(answer: Answer);
}
/** Asks for requests what their handlers' decorators say. For `APP_GUARD`, or for `@UseGuards()`. */
export declare class QuotumGuard implements CanActivate {
    #private;
    constructor(quota: Quota, options: QuotumModuleOptions);
    /** Whether a request is let in; a denial is thrown. */
    canActivate(context: ExecutionContext): Promise<boolean>;
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
export declare class QuotumModule {
    /** The module, with these options. */
    static forRoot(options: QuotumModuleOptions): DynamicModule;
    /** The module, with options that other providers are needed for. */
    static forRootAsync({ imports, inject, useFactory }: QuotumModuleAsyncOptions): DynamicModule;
}
