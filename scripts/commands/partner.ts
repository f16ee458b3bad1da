import { readFile } from 'node:fs/promises'
import { text as textOf } from 'node:stream/consumers'

import { importKeys, listKeys, revokeKey, rotateKey } from '../../adapters/partners/api-keys.ts'
import { enterPartner } from '../../adapters/partners/enter-partner.ts'
import {
  addPartner,
  listPartners,
  type PartnerSettings,
  setPartner,
} from '../../adapters/partners/partners.ts'
import { releasePartner } from '../../adapters/partners/release-partner.ts'
import { replayWebhook, setWebhook, stopWebhook } from '../../adapters/partners/webhook-settings.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command, Invocation, Outcome } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'
import {
  enteredOutcome,
  importedOutcome,
  keysTable,
  partnersTable,
  releasedOutcome,
  revokedOutcome,
} from '../command-line/partner-outcomes.ts'

/** What a verb works on, by its name in the usage, and the options that go with it. */
interface Verb {
  readonly operand: string | undefined
  readonly options: readonly (keyof typeof options)[]
  run(invocation: Invocation, operand: string): Promise<Outcome>
}

const options = {
  mode: { type: 'string', says: 'with add and set: compat (as the MES) or strict' },
  'requests-per-minute': {
    type: 'string',
    value: 'number',
    says: 'with add and set: how much it may ask of one instance',
  },
  'uploads-at-once': { type: 'string', value: 'number', says: 'with add and set: the same' },
  within: {
    type: 'string',
    value: 'duration',
    says: 'with enter and release: how long to wait for the proxies; default: 60s',
  },
  dead: {
    type: 'string',
    value: 'pid@host',
    says: 'with enter: a proxy that was found dead with writes open; several with commas',
  },
  minimum: {
    type: 'string',
    value: 'number',
    says: 'with enter: so many of its orders the shadow must have compared in the last 7 days; default: 0',
  },
  url: {
    type: 'string',
    says: 'with webhook: where the partner is told of its orders, https://...',
  },
  off: { type: 'boolean', says: 'with webhook: tell it nothing any more' },
  since: {
    type: 'string',
    value: 'duration',
    says: 'with replay: messages of so long go again, under their ids',
  },
  force: { type: 'boolean', says: 'with release: although the MES lacks orders of the intake' },
} as const

const settings = ['mode', 'requests-per-minute', 'uploads-at-once'] as const

const verbs: Readonly<Record<string, Verb>> = {
  list: {
    operand: undefined,
    options: [],
    async run({ connections }) {
      const partners = await listPartners(connections.intake())
      return { exitCode: 0, json: { partners }, text: partnersTable(partners) }
    },
  },
  add: {
    operand: 'id',
    options: settings,
    async run(invocation, id) {
      const wanted = settingsIn(invocation)
      await addPartner(databasesOf(invocation), readAct(invocation), id, wanted)
      return done(
        { id, ...wanted },
        `${id} is added; its calls go to the MES until "strangler partner enter ${id}"`,
      )
    },
  },
  set: {
    operand: 'id',
    options: settings,
    async run(invocation, id) {
      const wanted = settingsIn(invocation)
      if (Object.values(wanted).every((value) => value === undefined))
        refuse(`set expected one of ${settings.map((name) => `--${name}`).join(', ')}, got nothing`)
      await setPartner(databasesOf(invocation), readAct(invocation), id, wanted)
      return done({ id, ...wanted }, `${id} is changed, from its next call on`)
    },
  },
  keys: {
    operand: 'id',
    options: [],
    async run({ connections }, id) {
      const keys = await listKeys(connections.intake(), id)
      return { exitCode: 0, json: { id, keys }, text: keysTable(keys) }
    },
  },
  rotate: {
    operand: 'id',
    options: [],
    async run(invocation, id) {
      const made = await rotateKey(databasesOf(invocation), readAct(invocation), id)
      return done(
        { partner: id, ...made },
        `${id} has a new key ${made.id}; the one before goes on until "strangler partner revoke <key-id>"\n` +
          `key, shown this once: ${made.key}\n` +
          'the MES does not know it: until it is told there, orders that the intake passes on (share below 100 %) are refused with it',
      )
    },
  },
  revoke: {
    operand: 'key-id',
    options: [],
    async run(invocation, keyId) {
      return revokedOutcome(
        keyId,
        await revokeKey(databasesOf(invocation), readAct(invocation), keyId),
      )
    },
  },
  'import-keys': {
    operand: 'file|-',
    options: [],
    async run(invocation, file) {
      const act = readAct(invocation)
      const document = file === '-' ? await textOf(process.stdin) : await contentOf(file)
      return importedOutcome(await importKeys(databasesOf(invocation), act, document))
    },
  },
  webhook: {
    operand: 'id',
    options: ['url', 'off'],
    async run(invocation, id) {
      const { text, flag } = invocation
      const url = text('url')
      if ((url === undefined) === !flag('off')) refuse('webhook expected --url or --off')
      const act = readAct(invocation)
      if (url === undefined) {
        const changed = await stopWebhook(databasesOf(invocation), act, id)
        return done({ id, changed }, changed ? `${id} is told nothing any more` : 'it was off')
      }
      const secret = await setWebhook(databasesOf(invocation), act, id, url)
      return done(
        { id, url, secret },
        `${id} is told of its orders at ${url}\nsecret, shown this once: ${secret}`,
      )
    },
  },
  replay: {
    operand: 'id',
    options: ['since'],
    async run(invocation, id) {
      const since = invocation.text('since')
      if (since === undefined) refuse('replay expected --since, such as 1d')
      const messages = await replayWebhook(
        databasesOf(invocation),
        readAct(invocation),
        id,
        parseDuration('since', since),
      )
      return done({ id, messages }, `${messages} messages go again`)
    },
  },
  enter: {
    operand: 'id',
    options: ['within', 'dead', 'minimum'],
    async run(invocation, partner) {
      const { connections, text, log } = invocation
      const entered = await enterPartner({
        databases: databasesOf(invocation),
        mes: connections.mes(),
        partner,
        act: readAct(invocation),
        withinMs: parseDuration('within', text('within') ?? '60s'),
        dead: text('dead')?.split(',') ?? [],
        minimum: minimumIn(invocation),
        onProgress: (says) => log.info('partner_enter', { says }),
      })
      return enteredOutcome(partner, entered)
    },
  },
  release: {
    operand: 'id',
    options: ['within', 'force'],
    async run(invocation, partner) {
      const { text, flag, log } = invocation
      const released = await releasePartner({
        databases: databasesOf(invocation),
        partner,
        act: readAct(invocation),
        withinMs: parseDuration('within', text('within') ?? '60s'),
        force: flag('force'),
        onProgress: (says) => log.info('partner_release', { says }),
      })
      return releasedOutcome(partner, released)
    },
  },
}

export const partner: Command = {
  name: 'partner',
  summary:
    'partners and their keys, and whether their calls go to the intake: list, add, set, keys, rotate, revoke, import-keys, webhook, replay, enter, release',
  operands: ['<verb>', '[id|key-id|file|-]'],
  options: { ...options, ...actOptions },
  settings: ['INTAKE_URL', 'LEDGER_URL', 'MES_URL'],
  exits: {
    2: 'refused: nothing was changed, or the partner is at the MES as before',
    3: 'release: the partner is released, and not every proxy knows it yet; or a database does not answer',
  },
  example: 'strangler partner enter Acme --why "its orders are imported and compared"',
  async run(invocation) {
    const [name = '', operand] = invocation.positionals
    const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined
    if (verb === undefined) return refuse(`expected ${Object.keys(verbs).join(', ')}, got ${name}`)
    for (const option of Object.keys(options)) {
      const given = invocation.text(option) !== undefined || invocation.flag(option)
      if (given && !verb.options.some((each) => each === option))
        refuse(`--${option} does not go with ${name}`)
    }
    if (verb.operand === undefined && operand !== undefined)
      refuse(`${name} takes nothing more, got ${operand}`)
    if (verb.operand !== undefined && (operand === undefined || operand === ''))
      refuse(`${name} expected <${verb.operand}>, got nothing`)
    return await verb.run(invocation, operand ?? '')
  },
}

function databasesOf({ connections }: Invocation) {
  return { intake: connections.intake(), ledger: connections.ledger() }
}

function done(json: unknown, text: string): Outcome {
  return { exitCode: 0, json, text }
}

function settingsIn({ text }: Invocation): PartnerSettings {
  const mode = text('mode')
  if (mode !== undefined && mode !== 'compat' && mode !== 'strict')
    refuse(`--mode expected to be compat or strict, got ${mode}`)
  const number = (option: string): number | undefined => {
    const given = text(option)
    if (given === undefined) return undefined
    if (!/^[1-9]\d{0,8}$/u.test(given))
      refuse(`--${option} expected to be a whole number from 1, got ${given}`)
    return Number(given)
  }
  return {
    mode,
    requestsPerMinute: number('requests-per-minute'),
    uploadsAtOnce: number('uploads-at-once'),
  }
}

function minimumIn({ text }: Invocation): number {
  const given = text('minimum') ?? '0'
  if (!/^\d{1,9}$/u.test(given)) refuse(`--minimum expected to be a whole number, got ${given}`)
  return Number(given)
}

async function contentOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
    return refuse(`the file of keys can not be read (${code})`)
  }
}

function refuse(detail: string): never {
  throw new StranglerError('invalid_argument', detail)
}
