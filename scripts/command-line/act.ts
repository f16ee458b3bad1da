import { StranglerError } from '../../contracts/errors.ts'
import type { Invocation, Option } from './command.ts'
import { identity } from './identity.ts'

/** Of every command that changes what is in force. */
export const actOptions: Readonly<Record<'who' | 'why', Option>> = {
  who: { type: 'string', says: 'recorded in the journal; default: user@host' },
  why: { type: 'string', says: 'required; recorded in the journal' },
}

/** @throws StranglerError `invalid_argument` without a reason */
export function readAct({ text }: Pick<Invocation, 'text'>): { who: string; why: string } {
  const why = text('why')?.trim()
  if (why === undefined || why === '')
    throw new StranglerError(
      'invalid_argument',
      '--why expected to say the reason, for those who read the journal; got nothing',
    )
  return { who: text('who') ?? identity(), why }
}
