import { fork } from 'node:child_process'
import { join } from 'node:path'

import type { Rate } from '../../delivery/bench/rate.ts'
import type { PostgresServer } from '../../estate/postgres-server.ts'
import { RecentLines } from '../../estate/recent-lines.ts'
import { inheritedEnvironment } from '../../runtime/config.ts'
import { type Alternated, alternate, type Rounds } from './alternate.ts'
import { HttpClients, startPage } from './http-load.ts'

const program = join(import.meta.dirname, '../../strangler-proxy/bench/door-with-switch.ts')
const clients = 32
const page = '/orders/00000000-0000-4000-8000-000000000001'

export interface DoorBenchSize extends Rounds {
  readonly requestsPerRound: number
}

/** Pages through the front door with its lease on the ledger, against the same door, in the same process, without. */
export async function benchDoor(
  postgres: PostgresServer,
  { blocks, rounds, requestsPerRound }: DoorBenchSize,
): Promise<Alternated> {
  const upstream = await startPage()
  try {
    return await alternate({ blocks, rounds }, (_block, measure) =>
      withDoor(postgres, upstream.origin, async (gets) => {
        const round = (what: 'lease' | 'none') => () => gets(what, requestsPerRound)
        // Until the engine has compiled what is hot.
        for (const warm of ['none', 'lease', 'none', 'lease'] as const) await round(warm)()
        await measure({ peer: round('none'), ours: round('lease') })
      }),
    )
  } finally {
    await upstream.stop()
  }
}

async function withDoor(
  postgres: PostgresServer,
  origin: string,
  work: (gets: (what: 'lease' | 'none', count: number) => Promise<Rate>) => Promise<void>,
): Promise<void> {
  const door = fork(program, {
    env: {
      ...inheritedEnvironment(),
      SHOP_UPSTREAM: origin,
      CRM_UPSTREAM: origin,
      MES_UPSTREAM: origin,
      SHOP_LISTEN_PORT: '0',
      CRM_LISTEN_PORT: '0',
      MES_LISTEN_PORT: '0',
      ADMIN_PORT: '0',
      LEDGER_URL: postgres.urlFor('ledger', 'proxy_login'),
    },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const output = new RecentLines()
  if (door.stderr !== null) output.read(door.stderr)
  const exited = new Promise<void>((resolve) => {
    door.once('exit', () => resolve())
  })
  const said = (type: string): Promise<{ port?: number }> =>
    new Promise((resolve, reject) => {
      const onMessage = (message: { type?: string; port?: number }): void => {
        if (message.type !== type) return
        door.off('message', onMessage)
        resolve(message)
      }
      door.on('message', onMessage)
      void exited.then(() => reject(new Error(['the door ended', ...output.last(20)].join('\n  '))))
    })
  let open: HttpClients | undefined
  try {
    const { port } = await said('ready')
    const connected = await HttpClients.open(port!, clients)
    open = connected
    await work(async (what, count) => {
      const switched = said('switched')
      door.send(what)
      await switched
      return connected.gets(page, count)
    })
  } finally {
    open?.close()
    door.disconnect()
    await exited
  }
}
