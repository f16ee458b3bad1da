import { asStranglerError, StranglerError } from '../../contracts/errors.ts'
import { apiAddress } from './api-address.ts'
import { defaultEnvironment, project } from './flag-shape.ts'
import {
  isRecord,
  listOf,
  readToldFlag,
  type ToldFlag,
  type ToldStrategy,
} from './share-of-flag.ts'

export interface AdminOptions {
  /** Of the API: it ends in /api. */
  readonly url: string
  readonly token: string
  readonly environment?: string | undefined
  readonly timeoutMs?: number
}

/** A strategy that is active; a person can switch one off without removing it. */
export interface AdminStrategy extends ToldStrategy {
  readonly id: string
}

export interface FoundFlag extends ToldFlag {
  readonly state: 'found'
  readonly type: string
  readonly description: string
  readonly strategies: readonly AdminStrategy[]
}

export type FlagState = FoundFlag | { readonly state: 'absent' } | { readonly state: 'archived' }

/**
 * The little of Unleash's admin API that we need, for the flags of one environment.
 * Every call throws StranglerError `flag_server_unavailable` when no answer comes that can be trusted, `flag_server_refused` when
 * Unleash says no.
 */
export interface UnleashAdmin {
  readonly environment: string
  readFlag(name: string): Promise<FlagState>
  /** Off, and without a strategy. */
  createFlag(name: string, about: { type: string; description: string }): Promise<void>
  describeFlag(name: string, about: { type: string; description: string }): Promise<void>
  addStrategy(name: string, strategy: string, parameters: Parameters): Promise<void>
  /** What is not named stays as it is. */
  changeStrategy(
    name: string,
    strategyId: string,
    change: { name?: string; parameters: Parameters },
  ): Promise<void>
  setEnabled(name: string, enabled: boolean): Promise<void>
  /** A revived flag is off everywhere; its strategies are the old ones. */
  revive(name: string): Promise<void>
}

type Parameters = Readonly<Record<string, string>>
type Method = 'GET' | 'POST' | 'PUT' | 'PATCH'

interface Answer {
  readonly status: number
  readonly body: unknown
}

/** @throws StranglerError `invalid_configuration` */
export function unleashAdmin(options: AdminOptions): UnleashAdmin {
  const { token, environment = defaultEnvironment, timeoutMs = 5000 } = options
  const api = apiAddress(options.url)

  const ask = async (method: Method, path: string, body?: object): Promise<Answer> => {
    const what = `${method} ${api}${path}`
    try {
      const response = await fetch(`${api}${path}`, {
        method,
        headers: { authorization: token, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        // A login page is no answer, and the token is for nobody else.
        redirect: 'manual',
        signal: AbortSignal.timeout(timeoutMs),
      })
      const text = await response.text()
      return judge(what, response.status, text)
    } catch (error) {
      if (error instanceof StranglerError) throw error
      throw new StranglerError(
        'flag_server_unavailable',
        `${what}: ${whyNot(error, timeoutMs)}; look at UNLEASH_URL`,
        error,
      )
    }
  }
  /** For what must be there. */
  const must = async (method: Method, path: string, body?: object): Promise<unknown> => {
    const answer = await ask(method, path, body)
    if (answer.status !== 404) return answer.body
    throw new StranglerError(
      'flag_server_refused',
      `${method} ${api}${path}: 404${saysOf(answer.body)}`,
    )
  }
  const features = `/admin/projects/${project}/features`
  const pathOf = (name: string): string => `${features}/${encodeURIComponent(name)}`
  const here = (name: string): string =>
    `${pathOf(name)}/environments/${encodeURIComponent(environment)}`

  const isArchived = async (name: string): Promise<boolean> => {
    const search = new URLSearchParams({
      project: `IS:${project}`,
      archived: 'IS:true',
      query: name,
      limit: '100',
    })
    const found = await must('GET', `/admin/search/features?${search.toString()}`)
    return listOf(isRecord(found) ? found['features'] : undefined).some(
      (each) => isRecord(each) && each['name'] === name,
    )
  }

  return {
    environment,
    async readFlag(name) {
      const { status, body } = await ask('GET', pathOf(name))
      if (status === 404) return { state: (await isArchived(name)) ? 'archived' : 'absent' }
      return readFlagIn(environment, name, body)
    },
    async createFlag(name, about) {
      await must('POST', features, { name, ...about })
    },
    async describeFlag(name, about) {
      await must('PATCH', pathOf(name), [
        { op: 'replace', path: '/type', value: about.type },
        // Not replace: a flag that never had one has no such field.
        { op: 'add', path: '/description', value: about.description },
      ])
    },
    async addStrategy(name, strategy, parameters) {
      await must('POST', `${here(name)}/strategies`, { name: strategy, parameters })
    },
    async changeStrategy(name, strategyId, change) {
      await must('PATCH', `${here(name)}/strategies/${strategyId}`, [
        ...(change.name === undefined
          ? []
          : [{ op: 'replace', path: '/name', value: change.name }]),
        // One by one: what a person changes at the same moment stays.
        ...Object.entries(change.parameters).map(([parameter, value]) => ({
          op: 'add',
          path: `/parameters/${parameter}`,
          value,
        })),
      ])
    },
    async setEnabled(name, enabled) {
      await must('POST', `${here(name)}/${enabled ? 'on' : 'off'}`)
    },
    async revive(name) {
      await must('POST', `/admin/archive/revive/${encodeURIComponent(name)}`)
    },
  }
}

/** 2xx and 404 are answers; everything else is an error. */
function judge(what: string, status: number, text: string): Answer {
  const body = parse(text)
  const refused = (says: string): StranglerError =>
    new StranglerError('flag_server_refused', `${what}: ${says}`)
  if (status === 401) throw refused('401, it does not know the token; look at UNLEASH_ADMIN_TOKEN')
  if (status === 403) throw refused('403, the token of UNLEASH_ADMIN_TOKEN may not do this')
  if (status >= 300 && status < 400)
    throw refused(`${status}, it sends us elsewhere; look at UNLEASH_URL`)
  if (status === 429 || status >= 500)
    throw new StranglerError('flag_server_unavailable', `${what}: ${status}${saysOf(body)}`)
  if (status >= 400 && status !== 404) throw refused(`${status}${saysOf(body)}`)
  if (text !== '' && body === undefined)
    throw new StranglerError(
      'flag_server_unavailable',
      `${what}: ${status} with a text that is no JSON; is UNLEASH_URL that of Unleash?`,
    )
  return { status, body }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Unleash's own words, cut short. */
function saysOf(body: unknown): string {
  if (!isRecord(body)) return ''
  const details = listOf(body['details']).map((each) => (isRecord(each) ? each['message'] : each))
  const words = [body['message'], ...details].filter((each) => typeof each === 'string')
  return words.length === 0 ? '' : `, ${[...new Set(words)].join(' ').slice(0, 300)}`
}

function whyNot(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`
  // fetch says "fetch failed", and why in its cause.
  return error.cause instanceof Error ? whyNot(error.cause, timeoutMs) : error.message || error.name
}

function readFlagIn(environment: string, name: string, body: unknown): FoundFlag {
  const environments = listOf(isRecord(body) ? body['environments'] : undefined).filter(isRecord)
  const found = environments.find((each) => each['name'] === environment)
  if (found === undefined) {
    const names = environments.map((each) => String(each['name'])).join(', ')
    throw new StranglerError(
      'flag_server_refused',
      `${name} is in no environment ${environment}${names === '' ? '' : `, but in ${names}`}; set UNLEASH_ENVIRONMENT`,
    )
  }
  // The client's list leaves out what is switched off; so do we.
  const active = listOf(found['strategies'])
    .filter(isRecord)
    .filter((each) => each['disabled'] !== true)
  const told = isRecord(body) ? body : {}
  const flag = readToldFlag({
    enabled: found['enabled'],
    strategies: active,
    dependencies: told['dependencies'],
  })
  if (flag === undefined)
    throw asStranglerError(
      new Error(`it tells ${name} in a form that we do not know`),
      'flag_server_unavailable',
    )
  return {
    state: 'found',
    type: textOf(told['type']),
    description: textOf(told['description']),
    enabled: flag.enabled,
    parents: flag.parents,
    strategies: flag.strategies.map((each, index) =>
      Object.assign({ id: textOf(active[index]?.['id']) }, each),
    ),
  }
}

function textOf(told: unknown): string {
  return typeof told === 'string' ? told : ''
}
