import { parseArgs } from 'node:util'

import { StranglerError } from '../../contracts/errors.ts'
import { nearest } from './nearest.ts'

type Types = Readonly<Record<string, { readonly type: 'string' | 'boolean' }>>

type ValueOf<Type> = Type extends 'boolean' ? boolean : string

type Values<Options extends Types> = {
  readonly [Name in keyof Options]?: ValueOf<Options[Name]['type']>
}

/**
 * The options and operands of a call.
 * @throws StranglerError `invalid_argument`, with what was probably meant
 */
export function parseOptions<Options extends Types>(
  options: Options,
  args: readonly string[],
): { values: Values<Options>; positionals: string[] } {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    const message = error instanceof Error ? error.message.split('. To specify')[0]! : String(error)
    const unknown = /Unknown option '--([^']+)'/.exec(message)?.[1]
    const near = unknown === undefined ? undefined : nearest(unknown, Object.keys(options))
    throw new StranglerError(
      'invalid_argument',
      near === undefined ? message : `${message}; did you mean --${near}?`,
      error,
    )
  }
}

/** The same for a call that takes no operand. */
export function parseOnlyOptions<Options extends Types>(
  options: Options,
  args: readonly string[],
): Values<Options> {
  const { values, positionals } = parseOptions(options, args)
  if (positionals.length > 0)
    throw new StranglerError(
      'invalid_argument',
      `expected no operand, got ${positionals.join(' ')}`,
    )
  return values
}
