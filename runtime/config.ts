import { StranglerError } from '../contracts/errors.ts'
import { durationForm, readDuration } from './duration.ts'

/** Reads one variable. `text` is undefined when it is unset or empty. Throws an Error whose message ends the line "NAME ...". */
export type Reader<Value> = (text: string | undefined) => Value

export type Values<Shape extends Record<string, Reader<unknown>>> = {
  readonly [Name in keyof Shape]: ReturnType<Shape[Name]>
}

/**
 * The only place that reads the environment. All mistakes are listed at once, and a bad value stops the start.
 * @throws StranglerError `invalid_configuration`
 */
export function readConfig<Shape extends Record<string, Reader<unknown>>>(
  shape: Shape,
  environment: Record<string, string | undefined> = process.env,
): Values<Shape> {
  const values: Record<string, unknown> = {}
  const mistakes: string[] = []
  for (const [name, read] of Object.entries(shape)) {
    const given = environment[name]
    try {
      values[name] = read(given === '' ? undefined : given)
    } catch (error) {
      mistakes.push(`${name} ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (mistakes.length > 0) throw new StranglerError('invalid_configuration', mistakes.join('; '))
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every name of the shape was read above
  return Object.freeze(values) as Values<Shape>
}

export function optional<Value>(read: Reader<Value>): Reader<Value | undefined> {
  return (given) => (given === undefined ? undefined : read(given))
}

export function withDefault<Value>(read: Reader<Value>, value: Value): Reader<Value> {
  return (given) => (given === undefined ? value : read(given))
}

/** A URL of one of the given schemes, such as `postgres`. The value is never quoted in the error: it holds a password. */
export function url(...schemes: string[]): Reader<string> {
  const expected = `expected to be a URL with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`
  return (given) => {
    if (given === undefined) throw new Error(`${expected}, got nothing`)
    const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(given)?.[1]?.toLowerCase()
    if (scheme === undefined || !schemes.includes(scheme) || !URL.canParse(given)) {
      throw new Error(
        `${expected}, got ${scheme === undefined ? 'text without a scheme' : `${scheme}://...`}`,
      )
    }
    return given
  }
}

export function text(): Reader<string> {
  return (value) => {
    if (value === undefined) throw new Error('expected to be set, got nothing')
    return value
  }
}

export function integer(range: { min: number; max: number }): Reader<number> {
  return (given) => {
    const value = Number(given)
    if (given === undefined || !Number.isInteger(value) || value < range.min || value > range.max) {
      throw new Error(
        `expected to be a whole number from ${range.min} to ${range.max}, got ${given ?? 'nothing'}`,
      )
    }
    return value
  }
}

/** `60s`, `10m`, `1d`; in milliseconds. */
export const duration: Reader<number> = (given) => {
  const value = given === undefined ? undefined : readDuration(given)
  if (value === undefined)
    throw new Error(`expected to be ${durationForm}, got ${given ?? 'nothing'}`)
  return value
}

/** `http://host:port` and nothing behind it. */
export const origin: Reader<string> = (given) => {
  const value = url('http')(given)
  const parsed = new URL(value)
  if (parsed.pathname !== '/' || parsed.search !== '' || parsed.username !== '') {
    throw new Error('expected to be http://host:port without a path or credentials')
  }
  return parsed.origin
}

export const port: Reader<number> = integer({ min: 0, max: 65_535 })

/** What a child process inherits besides its own settings. */
export function inheritedEnvironment(): Record<string, string> {
  const inherited: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined) inherited[name] = value
  return inherited
}
