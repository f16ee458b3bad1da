import { StranglerError } from '../../contracts/errors.ts'
import { nearest } from './nearest.ts'

/** @throws StranglerError `invalid_argument` that lists the verbs, and the one that was meant */
export function wantedVerb<Verb extends string>(
  command: string,
  word: string,
  verbs: readonly Verb[],
): Verb {
  const verb = verbs.find((each) => each === word)
  if (verb !== undefined) return verb
  const near = nearest(word, verbs)
  throw new StranglerError(
    'invalid_argument',
    `${command} expected ${verbs.join(', ')}, got ${word}${near === undefined ? '' : `; did you mean ${near}?`}`,
  )
}
