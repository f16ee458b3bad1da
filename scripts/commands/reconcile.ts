import { legacySides, redrivePorts } from '../../adapters/wire/reconcile-sides.ts'
import { StranglerError } from '../../contracts/errors.ts'
import type { Difference, DifferenceKind, Remedy } from '../../delivery/difference.ts'
import { reconcile as compareAll } from '../../delivery/reconcile.ts'
import type { Reconciled } from '../../delivery/reconcile.ts'
import { redrive } from '../../delivery/redrive.ts'
import type { Redriven } from '../../delivery/redrive.ts'
import { optional, text as anyText } from '../../runtime/config.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command, Invocation } from '../command-line/command.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'

/** All are counted; so many are listed. */
const listed = 1000

export const reconcile: Command = {
  name: 'reconcile',
  summary:
    'compares Shop DB, ledger and MES order by order, and mends what can be mended on evidence',
  operands: [],
  options: {
    redrive: {
      type: 'boolean',
      says: 'mend: each act is recorded, and nothing is sent again without proof',
    },
    'dry-run': { type: 'boolean', says: 'with --redrive: say what it would do, change nothing' },
    watermark: {
      type: 'string',
      value: 'duration',
      says: 'what changed within it is under way; default: 60s',
    },
    who: { type: 'string', says: 'recorded with every act; default: user@host' },
  },
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'BROKER_URL', 'AMQP_MANAGEMENT_URL', 'MODEL_DIR'],
  exits: {
    0: 'no difference, or all of them redriven',
    1: 'differences remain, or the books do not balance; the ids are listed',
  },
  example: 'strangler reconcile --redrive --dry-run',
  async run(invocation) {
    const { flag, text, connections } = invocation
    if (flag('dry-run') && !flag('redrive')) {
      throw new StranglerError(
        'invalid_argument',
        '--dry-run only goes with --redrive; without both nothing is changed',
      )
    }
    const watermarkMs = parseDuration('watermark', text('watermark') ?? '60s')
    const ledger = connections.ledger()
    const mender =
      flag('redrive') && !flag('dry-run') ? await openMender(invocation, ledger) : undefined
    const counts = new Map<DifferenceKind, number>()
    const differences: (Difference & { redriven?: Redriven['outcome'] })[] = []
    let remaining = 0
    try {
      const { books, ...compared } = await compareAll({
        ledger,
        legacy: legacySides(connections.shop(), connections.mes()),
        watermarkMs,
        modelDirectory: connections.read({ MODEL_DIR: optional(anyText()) }).MODEL_DIR,
        async onDifferences(found) {
          for (const difference of found) {
            counts.set(difference.kind, (counts.get(difference.kind) ?? 0) + 1)
            const redriven = await mender?.mend(difference)
            if (redriven !== 'done') remaining += 1
            if (differences.length >= listed) continue
            differences.push(redriven === undefined ? difference : { ...difference, redriven })
          }
        },
      })
      const json = {
        compared,
        books,
        watermarkMs,
        counts: Object.fromEntries(counts),
        remaining,
        differences,
        listedAll: differences.length === [...counts.values()].reduce((sum, each) => sum + each, 0),
        mode: mender === undefined ? (flag('redrive') ? 'dry run' : 'compare') : 'redrive',
      }
      const done = remaining === 0 && books.unbalanced.length === 0
      return { exitCode: done ? 0 : 1, json, text: forPeople(json) }
    } finally {
      await mender?.close()
    }
  },
}

async function openMender({ connections, text }: Invocation, ledger: Pool) {
  const { rowCount } = await ledger.query(
    `SELECT FROM bridge WHERE queue = 'mes.orders' AND state <> 'absent'`,
  )
  const ports = redrivePorts({
    shop: connections.shop(),
    mes: connections.mes(),
    broker: await connections.broker(),
    bridged: rowCount === 1,
    proofWithinMs: 20_000,
  })
  const who = text('who') ?? identity()
  return {
    async mend(difference: Difference): Promise<Redriven['outcome'] | undefined> {
      const { remedy } = difference
      if (remedy === undefined) return undefined
      return (await redrive(ledger, ports, { ...difference, remedy }, who)).outcome
    },
    close: () => ports.close(),
  }
}

interface Report {
  readonly compared: Omit<Reconciled, 'books'>
  readonly books: Reconciled['books']
  readonly watermarkMs: number
  readonly counts: Readonly<Record<string, number>>
  readonly remaining: number
  readonly differences: readonly (Difference & { redriven?: string })[]
  readonly listedAll: boolean
  readonly mode: string
}

function forPeople(report: Report): string {
  const { compared, counts, differences, mode } = report
  const lines = [
    `compared ${compared.inShop} orders of the Shop DB, ${compared.inLedger} of the ledger, ${compared.inMes} of the MES; ` +
      `what changed in the last ${formatDuration(report.watermarkMs)} is under way`,
  ]
  lines.push(...inBooks(report.books))
  if (differences.length === 0) return [...lines, 'no difference'].join('\n')
  lines.push(
    Object.entries(counts)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(', '),
    '',
    columns(
      differences.map((difference) => [
        difference.kind,
        difference.orderId,
        difference.says,
        what(difference.remedy, mode, difference.redriven),
      ]),
      '  ',
    ),
  )
  if (!report.listedAll) lines.push(`  and more: the first ${listed} are listed`)
  if (mode === 'compare' && differences.some((each) => each.remedy !== undefined)) {
    lines.push('', '"strangler reconcile --redrive --dry-run" says what can be done')
  }
  if (mode === 'redrive')
    lines.push('', `${report.remaining} remain; run it again after the watermark`)
  return lines.join('\n')
}

/** Per path and minute of the submit. */
function inBooks({ pages, unbalanced }: Reconciled['books']): string[] {
  if (unbalanced.length === 0) return [`the books balance: ${pages} pages, one per path and minute`]
  return [
    `${unbalanced.length} of ${pages} pages of the books do not balance:`,
    columns(
      unbalanced
        .slice(0, listed)
        .map(({ path, minute, accepted, orderIds, ...has }) => [
          path,
          minute,
          `accepted ${accepted}, in the ledger ${Object.values(has).reduce((sum, each) => sum + each, 0)}`,
          orderIds.join(' '),
        ]),
      '  ',
    ),
  ]
}

function what(remedy: Remedy | undefined, mode: string, redriven: string | undefined): string {
  if (remedy === undefined) return mode === 'compare' ? '' : 'left to a person'
  if (mode === 'compare') return ''
  return mode === 'dry run' ? `would: ${inWords(remedy)}` : `${inWords(remedy)}: ${redriven ?? ''}`
}

function inWords(remedy: Remedy): string {
  if (!('lacks' in remedy)) return remedy.act
  const { status, price, currency } = remedy.lacks
  return [remedy.act, status, price, currency].filter((part) => part !== undefined).join(' ')
}
