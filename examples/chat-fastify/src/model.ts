// The model: a stand-in for one, of which every word is a token.

import { setTimeout as sleep } from 'node:timers/promises'

/** Answers a prompt, word by word, in about so many tokens, until it is told to stop. */
export type Model = (prompt: string, tokensMax: number, stop: AbortSignal) => AsyncIterable<string>

/** The model has no answer, or no more of it. */
export class ModelFailed extends Error {}

/** How many tokens a text is. */
export function tokensOf (text: string): number {
  return text.split(/\s+/).filter(Boolean).length
}

/** A model that repeats the prompt until its tokens are used up, and thinks so long about each word. */
export function echo (pauseMs: number): Model {
  return async function * (prompt, tokensMax, stop) {
    const words = prompt.split(/\s+/).filter(Boolean)
    for (let number = 0; number < tokensMax; number++) {
      await sleep(pauseMs, undefined, { signal: stop })
      yield words[number % words.length] as string
    }
  }
}
