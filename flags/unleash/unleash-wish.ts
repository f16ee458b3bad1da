import { formatShare } from '../../contracts/path-share.ts'
import { type Service, service } from '../../runtime/lifecycle.ts'
import { type Log, withoutSecrets } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import type { PhaseId } from '../phases.ts'
import { apiAddress } from './api-address.ts'
import { backupFile } from './backup-file.ts'
import { type FlagShare, readToldFlag, shareOfFlag } from './share-of-flag.ts'
import { openConnection, type Trouble, type UnleashConnection } from './unleash-connection.ts'

/**
 * What people want of a phase, as Unleash says it. `share` is in ten-thousandths; `ageMs` is the time since Unleash last
 * answered (200 or 304), on a clock that nobody can set; undefined = never since the start.
 * Unknown is not 0 %: whoever reads it leaves in force what is in force. The reason says what to do.
 */
export type Wish =
  | { readonly state: 'known'; readonly share: number; readonly ageMs: number }
  | { readonly state: 'unknown'; readonly reason: string; readonly ageMs: number | undefined }

export interface UnleashWish extends Service {
  of(phase: PhaseId): Wish
}

export interface UnleashWishOptions {
  /** Of the API: it ends in /api. */
  readonly url: string
  /** A backend token; the environment is the token's. */
  readonly token: string
  /** A folder for this reader alone, made when missing: what Unleash said last is kept there over restarts. */
  readonly backupDirectory: string
  readonly refreshIntervalMs?: number
  /** At least 1000: the client's own retry refuses to work with less. */
  readonly requestTimeoutMs?: number
  /** Without an answer for so long, the client is thrown away and made anew. */
  readonly renewAfterMs?: number
  /** Without an answer for longer, the wish is unknown. */
  readonly ageLimitMs?: number
  readonly log: Log
}

/**
 * The reader of the wish.
 *
 *   silent --answer--> heard --no answer for `ageLimitMs`--> unknown ("last answered ... ago")
 *                        |---------401 or 403--------------> unknown at once
 *   unknown --answer--> heard
 *
 * Only an answer of the server in this life counts: neither the backup nor a 304 to a list that could not be read. What keeps
 * the answers coming is one rule: no answer for `renewAfterMs`, and the client is thrown away and made anew. unleash-client
 * stops polling for good at one 401, hangs for half a minute on a server that does not answer, and comes back from errors step
 * by step, up to 11 intervals; a new one asks at once. The start neither waits for Unleash nor fails because of it.
 *
 * @throws StranglerError `invalid_configuration` for an address that is not that of the API
 */
export function unleashWish(options: UnleashWishOptions): UnleashWish {
  const {
    token,
    log,
    refreshIntervalMs = 1000,
    requestTimeoutMs = 3000,
    renewAfterMs = 5000,
    ageLimitMs = 30_000,
  } = options
  const api = apiAddress(options.url)
  const backup = backupFile(options.backupDirectory, log)

  let connection: UnleashConnection | undefined
  let openedAt = 0
  // A connection that was thrown away still knows what it was told; the one after it knows nothing yet.
  let answered: { readonly at: number; readonly by: UnleashConnection } | undefined
  let trouble: Trouble | undefined
  let said: 'nothing' | 'silent' | 'refused' = 'nothing'

  const onAnswer = (by: UnleashConnection): void => {
    answered = { at: performance.now(), by }
    trouble = undefined
    if (said !== 'nothing') log.info('unleash_answers_again')
    said = 'nothing'
  }
  const onTrouble = (next: Trouble): void => {
    trouble = { ...next, says: withoutSecrets(next.says) }
    if (!next.refused || said === 'refused') return
    said = 'refused'
    log.error('unleash_refuses_token', { api, reason: trouble.says })
  }
  const open = (): void => {
    openedAt = performance.now()
    connection = openConnection({
      api,
      token,
      refreshIntervalMs,
      requestTimeoutMs: Math.max(1000, requestTimeoutMs),
      backup,
      onAnswer,
      onTrouble,
    })
  }
  const close = (): void => {
    connection?.stop()
    connection = undefined
  }
  const watchdog = pollLoop({
    name: 'unleash-wish',
    log,
    idleMs: () => renewAfterMs / 5,
    work() {
      const heardAt = Math.max(openedAt, answered?.at ?? 0)
      if (performance.now() - heardAt >= renewAfterMs) {
        trouble ??= { refused: false, says: `it lets ${renewAfterMs} ms pass without an answer` }
        if (said === 'nothing') {
          said = 'silent'
          log.warn('unleash_silent', { api, reason: trouble.says })
        }
        close()
        open()
      }
      return Promise.resolve(false)
    },
  })
  const lifecycle = service({
    async start() {
      open()
      await watchdog.start()
    },
    async stop() {
      await watchdog.stop()
      close()
      await backup.written()
    },
  })

  const lastHeard = (phase: PhaseId): string => {
    if (backup.found === 'torn') return '; the backup of what it said before is torn'
    if (backup.found !== 'read' || connection === undefined) return ''
    const found = readFlag(phase, connection)
    const was = found.state === 'known' ? formatShare(found.share) : 'no share'
    return `; its last word before this start was ${was}, which is no wish now`
  }

  return {
    ...lifecycle,
    of(phase) {
      const ageMs = answered === undefined ? undefined : performance.now() - answered.at
      const unknown = (reason: string): Wish => ({ state: 'unknown', reason, ageMs })
      const why = trouble === undefined ? '' : `: ${trouble.says}`
      if (connection === undefined) return unknown('nobody asks Unleash: the reader is stopped')
      if (answered === undefined || ageMs === undefined)
        return unknown(
          trouble?.refused === true
            ? `Unleash refuses us${why}${lastHeard(phase)}`
            : `Unleash at ${api} has not answered since the start${why}${lastHeard(phase)}`,
        )
      const ago = `${(ageMs / 1000).toFixed(1)} s ago`
      if (trouble?.refused === true)
        return unknown(`Unleash refuses us${why}; it last answered ${ago}`)
      if (ageMs > ageLimitMs)
        return unknown(
          `Unleash at ${api} last answered ${ago}, more than ${ageLimitMs / 1000} s${why}`,
        )
      const told = readFlag(phase, answered.by)
      return told.state === 'known'
        ? { state: 'known', share: told.share, ageMs }
        : unknown(told.reason)
    },
  }
}

function readFlag(phase: PhaseId, told: UnleashConnection): FlagShare {
  const definition = told.definition(phase)
  if (definition === undefined)
    return noShare(
      told.isEmpty()
        ? 'Unleash tells an empty list of flags: the token is of another environment or project, or "strangler flags apply" has not been run'
        : `Unleash tells flags, but none of the name ${phase}: "strangler flags apply" creates or revives it`,
    )
  const flag = readToldFlag(definition)
  if (flag === undefined)
    return noShare(`Unleash tells the flag ${phase} in a form that we do not know`)
  const share = shareOfFlag(flag)
  return share.state === 'known'
    ? share
    : noShare(`the flag ${phase} says no share: ${share.reason}`)
}

function noShare(reason: string): FlagShare {
  return { state: 'unknown', reason }
}
