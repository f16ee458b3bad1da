import { EventEmitter } from 'node:events'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'

import { Unleash, UnleashEvents } from 'unleash-client'

import type { BackupFile } from './backup-file.ts'

export interface ConnectionOptions {
  /** Of the API, without a slash at its end. */
  readonly api: string
  readonly token: string
  readonly refreshIntervalMs: number
  readonly requestTimeoutMs: number
  readonly backup: BackupFile
  /** The server has told the list, or that it is the one told before. */
  readonly onAnswer: (by: UnleashConnection) => void
  readonly onTrouble: (trouble: Trouble) => void
}

export interface Trouble {
  /** 401 or 403: the token, and nothing that passes by itself. */
  readonly refused: boolean
  readonly says: string
}

/** One life of an unleash-client, from its first question until it is thrown away. */
export interface UnleashConnection {
  /** The flag as it was told last; before the first answer as the backup has it. */
  definition(name: string): unknown
  /** No flag at all. */
  isEmpty(): boolean
  /** Ends the questions that are under way too. */
  stop(): void
}

export function openConnection(options: ConnectionOptions): UnleashConnection {
  const { api, token, refreshIntervalMs, requestTimeoutMs, backup, onAnswer, onTrouble } = options
  let stopped = false
  const Agent = api.startsWith('https:') ? HttpsAgent : HttpAgent
  const agent = new Agent({ keepAlive: true })
  const client = new Unleash({
    appName: 'strangler',
    url: `${api}/`,
    customHeaders: { Authorization: token },
    refreshInterval: refreshIntervalMs,
    timeout: requestTimeoutMs,
    disableMetrics: true,
    skipInstanceCountWarning: true,
    // Its own start comes a tick later, also when it has been destroyed meanwhile, and then it asks for ever.
    disableAutoStart: true,
    storageProvider: backup,
    httpOptions: {
      agent: () => {
        // It asks up to three times; a request that we have broken off must not be repeated.
        if (stopped) throw new Error('stopped')
        return agent
      },
    },
  })
  const connection: UnleashConnection = {
    definition: (name) => client.getFeatureToggleDefinition(name),
    isEmpty: () => client.getFeatureToggleDefinitions().length === 0,
    stop() {
      if (stopped) return
      stopped = true
      client.destroy()
      hearErrors(client)
      agent.destroy()
    },
  }
  // The client keeps the ETag of a list that it then could not read, and the 304s that follow speak of that list, not of ours.
  let listIsRead = false
  client.on(UnleashEvents.Changed, () => {
    listIsRead = true
    onAnswer(connection)
  })
  client.on(UnleashEvents.Unchanged, () => {
    if (listIsRead) onAnswer(connection)
    else
      onTrouble({
        refused: false,
        says: 'it answers 304 before it has told a list that we could read',
      })
  })
  client.on(UnleashEvents.Error, (error: unknown) => {
    listIsRead = false
    onTrouble(troubleOf(error))
  })
  client.on(UnleashEvents.Warn, (warning: unknown) => onTrouble(troubleOf(warning)))
  client.start().catch((error: unknown) => onTrouble(troubleOf(error)))
  return connection
}

/**
 * `destroy` takes away every listener of the client's repository, and a request that fails after it then emits an `error` that
 * nobody hears: an unhandled rejection, which ends a process of ours.
 */
function hearErrors(client: Unleash): void {
  const repository: unknown = Reflect.get(client, 'repository')
  if (repository instanceof EventEmitter) repository.on('error', () => undefined)
}

function troubleOf(told: unknown): Trouble {
  const text = told instanceof Error ? told.message : String(told)
  const status = /responded (?:\D* \()?(\d{3})|statusCode 2XX, but was (\d{3})/.exec(text)
  const code = status?.[1] ?? status?.[2]
  if (code === '401' || code === '403')
    return {
      refused: true,
      says: `it answers ${code}: UNLEASH_CLIENT_TOKEN is not, or no longer, a backend token of it`,
    }
  if (code !== undefined) return { refused: false, says: `it answers ${code}` }
  return { refused: false, says: text.replace(/^Unleash Repository error: /, '') }
}
