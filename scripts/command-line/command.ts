import type { Log } from '../../runtime/log.ts'
import type { Connections } from './connections.ts'

/** 0 done, 1 a difference or something unsafe was found, 2 refused or wrongly asked, 3 a source could not be read. */
export type ExitCode = 0 | 1 | 2 | 3

export interface Option {
  readonly type: 'string' | 'boolean'
  /** In the usage, for a string: `--share <share>`. */
  readonly value?: string
  readonly says: string
}

export interface Invocation {
  readonly positionals: readonly string[]
  readonly text: (option: string) => string | undefined
  readonly flag: (option: string) => boolean
  readonly connections: Connections
  readonly log: Log
  /** Shows something before the end, on stdout. */
  readonly show: (text: string) => void
}

export interface Outcome {
  readonly exitCode: ExitCode
  /** The document of `--json`. */
  readonly json: unknown
  /** The same for a person. */
  readonly text: string
}

/** One verb of `strangler`. Its help is made from this, so it can't be without. */
export interface Command {
  readonly name: string
  readonly summary: string
  /** What follows the name, such as `<phase>`; as many are needed as there are words in angle brackets. */
  readonly operands: readonly string[]
  readonly options: Readonly<Record<string, Option>>
  readonly settings: readonly string[]
  /** What its exit codes mean, where they say more than the general list. */
  readonly exits?: Partial<Record<ExitCode, string>>
  readonly example: string
  run(invocation: Invocation): Promise<Outcome>
}
