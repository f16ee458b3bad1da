import { bottleneck as findBottleneck } from '../../delivery/bottleneck.ts'
import type { Bottleneck, HopLoad } from '../../delivery/bottleneck.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'

export const bottleneck: Command = {
  name: 'bottleneck',
  summary: 'which hop the time goes into, and whether orders queue there or are worked on',
  operands: [],
  options: {
    since: {
      type: 'string',
      value: 'duration',
      says: 'the window, such as 90s, 10m, 2h; default: 10m',
    },
  },
  settings: ['LEDGER_URL'],
  exits: { 0: 'named', 3: 'no order moved in the window, or the ledger does not answer' },
  example: 'strangler bottleneck --since 10m',
  async run({ text, connections }) {
    const sinceMs = parseDuration('since', text('since') ?? '10m')
    const found = await findBottleneck(connections.ledger(), sinceMs)
    return { exitCode: found.worst === undefined ? 3 : 0, json: found, text: forPeople(found) }
  },
}

function forPeople({ hops, worst, windowMs }: Bottleneck): string {
  const window = formatDuration(windowMs)
  if (worst === undefined) {
    return `no order moved in the last ${window}: nothing can be said; try a longer --since`
  }
  return [
    `bottleneck of the last ${window}: ${worst.hop} (${worst.path} path), ${worst.kind}: ` +
      `${percent(worst.shareOfTime)} of the time, ${because(worst)}`,
    '',
    columns(
      [
        [
          'hop',
          'path',
          'arrivals',
          'per s',
          'in flight',
          'wait p50',
          'p95',
          'service p50',
          'p95',
          'share',
          'busy',
          'L',
          'lambda W',
          '',
        ],
        ...hops.map((hop) => [
          hop.human ? `${hop.hop} (a person)` : hop.hop,
          hop.path,
          `${hop.arrivals}`,
          hop.arrivalsPerSecond.toFixed(2),
          `${hop.inFlight}`,
          formatDuration(hop.waitP50),
          formatDuration(hop.waitP95),
          formatDuration(hop.serviceP50),
          formatDuration(hop.serviceP95),
          hop.human ? '-' : percent(hop.shareOfTime),
          percent(hop.utilisation),
          hop.inSystem.toFixed(2),
          hop.lambdaW.toFixed(2),
          hop.human ? '' : hop.kind,
        ]),
      ],
      '  ',
    ),
  ].join('\n')
}

function because(hop: HopLoad): string {
  const times = `wait p95 ${formatDuration(hop.waitP95)}, service p95 ${formatDuration(hop.serviceP95)}`
  return hop.kind === 'queueing'
    ? `${times}: orders stand in line, ${hop.inFlight} are there now`
    : `${times}: the work itself takes that long`
}

function percent(part: number): string {
  return `${(part * 100).toFixed(0)} %`
}
