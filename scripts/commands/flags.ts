import { formatShare } from '../../contracts/path-share.ts'
import { phases } from '../../flags/phases.ts'
import { applyFlag } from '../../flags/unleash/apply-flag.ts'
import { compareFlag, type FlagDifference } from '../../flags/unleash/compare-flag.ts'
import { flagOf, type PhaseFlag } from '../../flags/unleash/flag-shape.ts'
import { shareOfFlag } from '../../flags/unleash/share-of-flag.ts'
import type { FlagState, UnleashAdmin } from '../../flags/unleash/unleash-admin.ts'
import type { Command } from '../command-line/command.ts'
import { wantedVerb } from '../command-line/wanted-verb.ts'

const verbs = ['diff', 'apply'] as const

interface Report {
  readonly phase: string
  /** What Unleash says people want, in ten-thousandths; null = no share can be read from it. */
  readonly wish: number | null
  readonly wishSays: string
  readonly done: readonly string[]
  readonly differences: readonly FlagDifference[]
}

export const flags: Command = {
  name: 'flags',
  summary: "compares the phases' flags in Unleash with the phases, or makes them agree",
  operands: ['<diff|apply>'],
  options: {},
  settings: ['UNLEASH_URL', 'UNLEASH_ADMIN_TOKEN', 'UNLEASH_ENVIRONMENT'],
  exits: {
    0: 'diff: all flags are as the phases want them; apply: now they are',
    1: 'diff: a flag differs; apply: something is left that only people can mend',
    2: 'refused: by Unleash, or asked in a wrong way',
    3: 'Unleash does not answer',
  },
  example: 'strangler flags diff',
  async run({ positionals, connections }) {
    const verb = wantedVerb('flags', positionals[0]!, verbs)
    const admin = connections.unleash()
    const reports: Report[] = []
    for (const phase of phases) {
      const flag = flagOf(phase)
      reports.push(verb === 'diff' ? await look(admin, flag) : await mend(admin, flag))
    }
    const { environment } = admin
    return {
      exitCode: reports.some(({ differences }) => differences.length > 0) ? 1 : 0,
      json: { verb, environment, flags: reports },
      text: reports.flatMap((report) => linesOf(report)).join('\n'),
    }
  },
}

async function look(admin: UnleashAdmin, flag: PhaseFlag): Promise<Report> {
  const state = await admin.readFlag(flag.id)
  return { ...wishOf(flag, state), done: [], differences: compareFlag(flag, state) }
}

async function mend(admin: UnleashAdmin, flag: PhaseFlag): Promise<Report> {
  const { state, done, left } = await applyFlag(admin, flag)
  return { ...wishOf(flag, state), done, differences: left }
}

function wishOf(flag: PhaseFlag, state: FlagState): Pick<Report, 'phase' | 'wish' | 'wishSays'> {
  if (state.state !== 'found') return { phase: flag.id, wish: null, wishSays: 'no wish' }
  const told = shareOfFlag(state)
  if (told.state === 'unknown')
    return { phase: flag.id, wish: null, wishSays: 'no wish that can be read' }
  const says = `the wish is ${formatShare(told.share)}${state.enabled ? '' : ': it is off'}`
  return { phase: flag.id, wish: told.share, wishSays: says }
}

function linesOf({ phase, wishSays, done, differences }: Report): string[] {
  const changes = [
    ...done.map((each) => `${phase}: ${each}`),
    ...differences.map(({ says, mend: how }) => `${phase}: ${says} -> ${remedies[how]}`),
  ]
  return changes.length === 0
    ? [`${phase}: as it should be; ${wishSays}`]
    : [...changes, `${phase}: ${wishSays}`]
}

const remedies: Readonly<Record<FlagDifference['mend'], string>> = {
  create: '"strangler flags apply" would create it, on, at 0 %',
  revive: '"strangler flags apply" would revive it, off',
  describe: '"strangler flags apply" would mend that',
  'add strategy': '"strangler flags apply" would add a gradual rollout at 0 %',
  'change strategy': '"strangler flags apply" would mend that',
  'by people': 'only people can mend that, on the page of the flag',
}
