import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { inheritedEnvironment } from '../../runtime/config.ts'

export interface Settings {
  readonly environment: Readonly<Record<string, string>>
  /** The file of a demo that is kept up, and what was taken from it. */
  readonly fromEstate: { readonly file: string; readonly names: readonly string[] } | undefined
}

/**
 * The environment, and where it is silent `.strangler/estate.json` of this folder or one above it: a demo that is kept up
 * writes its URLs there, so that the commands find it without a setting.
 */
export function readSettings(
  folder: string,
  environment: Record<string, string> = inheritedEnvironment(),
): Settings {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const found = findEstate(folder)
  if (found === undefined) return { environment: set, fromEstate: undefined }
  // AMQP_URL and BROKER_URL are one setting under two names.
  const broker = set['BROKER_URL'] !== undefined || set['AMQP_URL'] !== undefined
  const names = Object.keys(found.environment).filter(
    (name) =>
      set[name] === undefined && !(broker && /^(BROKER|AMQP)_(MANAGEMENT_)?URL$/.test(name)),
  )
  const taken = Object.fromEntries(names.map((name) => [name, found.environment[name]!]))
  return { environment: { ...taken, ...set }, fromEstate: { file: found.file, names } }
}

function findEstate(
  folder: string,
): { file: string; environment: Record<string, string> } | undefined {
  for (let here = folder; ; here = dirname(here)) {
    const file = join(here, '.strangler', 'estate.json')
    try {
      return { file, environment: stringsOf(JSON.parse(readFileSync(file, 'utf8'))) }
    } catch {
      // Absent, not ours to read, or half written: then it says nothing.
    }
    if (dirname(here) === here) return undefined
  }
}

function stringsOf(document: unknown): Record<string, string> {
  if (typeof document !== 'object' || document === null || !('environment' in document)) return {}
  const { environment } = document
  if (typeof environment !== 'object' || environment === null) return {}
  const entries: [string, unknown][] = Object.entries(environment)
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])),
  )
}
