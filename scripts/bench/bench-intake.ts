import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Rate } from '../../delivery/bench/rate.ts'
import { spawnNode } from '../../estate/child-process.ts'
import { type Estate, startEstate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'
import type { PostgresServer } from '../../estate/postgres-server.ts'
import { alternate, type Interval } from './alternate.ts'
import { UploadLoad } from './upload-load.ts'

export interface IntakeBenchSize {
  readonly uploadsPerRound: number
  readonly blocks: number
  readonly rounds: number
  readonly uploadsForMemory: number
}

export interface IntakeBenchResult {
  readonly modelBytes: number
  readonly clients: number
  readonly plain: Rate
  readonly intake: Rate
  readonly ratio: Interval
  /** Of the intake's process, MB: after the first tenth of the uploads, and the most after that. */
  readonly memory: { readonly uploads: number; readonly early: number; readonly most: number }
}

const modelBytes = 100_000
const clients = 32
const key = 'bench-key'

/** Accepted orders/s with a model each, against express with multer and one INSERT, in alternating rounds on one server and disk. */
export async function benchIntake(
  size: IntakeBenchSize,
  postgres: PostgresServer,
  say: (line: string) => void,
): Promise<IntakeBenchResult> {
  const estate = await startEstate({
    postgres,
    databasePrefix: 'bench_intake_',
    without: ['shop', 'crm', 'proxy', 'bridge', 'relay', 'courier', 'watch', 'applier', 'shadow'],
    with: ['intake'],
  })
  const folder = await mkdtemp(join(tmpdir(), 'strangler-plain-'))
  const load = new UploadLoad({ clients, modelBytes, key })
  try {
    await preparePartner(estate, 10_000)
    await withClient(estate.databases.intake, (client) =>
      client.query(`CREATE TABLE plain_order (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), external_id text, material text, quantity int,
        comment text, model_path text, model_sha256 text, created_at timestamptz DEFAULT now())`),
    )
    const plain = spawnNode('plain-intake', join(import.meta.dirname, 'plain-intake.ts'), {
      env: { DATABASE_URL: estate.databases.intake, MODEL_DIR: folder, PORT: '0' },
    })
    await plain.ready
    const origins = {
      plain: `http://127.0.0.1:${plain.port}`,
      intake: `http://127.0.0.1:${estate.process('intake').port}`,
    }
    const round = (which: keyof typeof origins): Promise<Rate> =>
      load.submit(origins[which], size.uploadsPerRound, clients)
    // Code is warm before anything is counted.
    await round('plain')
    await round('intake')
    const measured = await alternate(
      { blocks: size.blocks, rounds: size.rounds },
      (_block, measure) => measure({ ours: () => round('intake'), peer: () => round('plain') }),
    )
    await plain.terminate()
    const memory = await memoryOver(estate, load, origins.intake, size.uploadsForMemory)
    const result = {
      modelBytes,
      clients,
      plain: measured.peer,
      intake: measured.ours,
      ratio: measured.ratio,
      memory,
    }
    for (const [name, rate] of [
      ['express, multer, one INSERT', result.plain],
      ['the intake', result.intake],
    ] as const)
      say(`  ${name.padEnd(30)} ${rate.perSecond}/s   p50 ${rate.p50} ms   p99 ${rate.p99} ms`)
    say(
      `  memory over ${memory.uploads} uploads: ${memory.early} MB, then at most ${memory.most} MB`,
    )
    return result
  } finally {
    load.close()
    await estate.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

/** A partner behind the intake, which accepts that share of its orders. */
export async function preparePartner(estate: Estate, share: number): Promise<void> {
  await withClient(estate.databases.intake, async (client) => {
    await client.query(
      `INSERT INTO partner (id, route, entered_at, requests_per_minute, uploads_at_once) VALUES ('Bench', 'intake', now(), 1000000000, 1000)`,
    )
    await client.query(
      `INSERT INTO api_key (id, partner, secret_sha256) VALUES ('bench', 'Bench', $1)`,
      [createHash('sha256').update(key).digest()],
    )
    await client.query(
      `INSERT INTO strangler.route (phase, epoch, share, seed) VALUES ('partner-intake', 1, $1, 1)`,
      [share],
    )
  })
}

async function memoryOver(
  estate: Estate,
  load: UploadLoad,
  origin: string,
  uploads: number,
): Promise<IntakeBenchResult['memory']> {
  const { pid } = estate.process('intake')
  const tenth = Math.ceil(uploads / 10)
  let early = 0
  let most = 0
  for (let done = 0; done < uploads; done += tenth) {
    await load.submit(origin, tenth, clients)
    const now = await residentMegabytes(pid)
    if (done === 0) early = now
    else most = Math.max(most, now)
  }
  return { uploads, early, most }
}

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+) kB/u.exec(status)?.[1] ?? 0) / 1024)
}
