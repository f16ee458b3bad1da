import { integer, readConfig, withDefault } from '../runtime/config.ts'

const full = readConfig({ FULL_SIZE: withDefault(integer({ min: 0, max: 1 }), 0) }).FULL_SIZE === 1

/** How many of something a test takes: what the failure matrix asks for, fewer in `npm run matrix -- --short`. */
export function sized(fullSize: number, short: number): number {
  return full ? fullSize : short
}
