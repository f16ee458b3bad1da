import { StranglerError } from '../../contracts/errors.ts'
import { prepareDoorbell } from '../../delivery/prepare-doorbell.ts'
import { applyMigrations, type MigrationReport } from '../../runtime/apply-migrations.ts'
import type { Command } from '../command-line/command.ts'
import { lacksRights, ownerNeeded } from '../command-line/rights.ts'

const databases = {
  strangler: 'LEDGER_URL',
  shop: 'SHOP_URL',
  mes: 'MES_URL',
  intake: 'INTAKE_URL',
} as const
type Folder = keyof typeof databases

export const migrate: Command = {
  name: 'migrate',
  summary: 'brings our own objects into the ledger, the Shop DB, the MES DB and the intake DB',
  operands: [],
  options: {
    only: {
      type: 'string',
      value: 'database',
      says: 'one of strangler, shop, mes, intake; default: the first three, for intake comes with phase 3',
    },
  },
  settings: Object.values(databases),
  exits: { 2: 'a file failed and left nothing of itself; those before it stay applied' },
  example: 'strangler migrate --only strangler',
  async run({ text, connections }) {
    const only = text('only')
    const folders = wanted(only)
    // All settings first: a missing one should not be found half way.
    const urls = folders.map((folder) => [folder, connections.urlOf(databases[folder])] as const)
    const reports = []
    for (const [folder, url] of urls) {
      reports.push({ database: folder, ...(await applyAsOwner(url, folder)) })
    }
    // A queue of BullMQ's in PostgreSQL needs its tables; a Redis needs nothing.
    const doorbell =
      only === undefined && connections.isSet('QUEUE_URL')
        ? await prepareDoorbell(connections.urlOf('QUEUE_URL'))
        : undefined
    return {
      exitCode: 0,
      json: { databases: reports, doorbell },
      text: reports
        .map(({ database, applied, already }) => {
          const done = applied.length === 0 ? 'nothing to do' : `applied ${applied.join(', ')}`
          return `${database}: ${done} (${already.length} there already)`
        })
        .concat(doorbell === undefined ? [] : [`doorbell: ${doorbell}`])
        .join('\n'),
    }
  },
}

async function applyAsOwner(url: string, folder: Folder): Promise<MigrationReport> {
  try {
    return await applyMigrations(url, folder)
  } catch (error) {
    if (!lacksRights(error)) throw error
    const reason = error instanceof StranglerError ? error.detail : `${folder}: ${says(error)}`
    throw new StranglerError('refused', `${reason}; ${ownerNeeded(databases[folder])}`, error)
  }
}

function says(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function wanted(only: string | undefined): Folder[] {
  const folders: Folder[] = ['strangler', 'shop', 'mes', 'intake']
  if (only === undefined) return folders.filter((folder) => folder !== 'intake')
  const found = folders.filter((folder) => folder === only)
  if (found.length > 0) return found
  throw new StranglerError(
    'invalid_argument',
    `--only expected to be ${folders.join(', ')}, got ${only}`,
  )
}
