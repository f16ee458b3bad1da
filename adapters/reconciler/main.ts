import { phases } from '../../flags/phases.ts'
import { reconciler } from '../../flags/reconciler.ts'
import type { WishSource } from '../../flags/reconciler.ts'
import { epochLease } from '../../flags/replicas.ts'
import { phasesAt } from '../../flags/seams.ts'
import { unleashWish } from '../../flags/unleash/unleash-wish.ts'
import {
  duration,
  integer,
  optional,
  readConfig,
  text,
  url,
  withDefault,
} from '../../runtime/config.ts'
import { inOrder, service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { createLog } from '../../runtime/log.ts'
import type { Health } from '../../runtime/metrics-listener.ts'
import { openMetrics } from '../../runtime/open-metrics.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import { createPool } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { gateEvidence } from '../gates/gate-evidence.ts'
import { gateSettings, gateShape } from '../gates/gate-settings.ts'
import { carryOn } from '../statuses/repin.ts'
import { phaseContext } from './phase-context.ts'

const log = createLog('reconciler')
const name = 'strangler-reconciler'

/** Moves the phases towards what is wished, as their gates allow, and back when a guard fails. */
await runProcess(log, async () => {
  const databases = readConfig({
    LEDGER_URL: url('postgres', 'postgresql'),
    SHOP_URL: url('postgres', 'postgresql'),
    MES_URL: url('postgres', 'postgresql'),
    INTAKE_URL: optional(url('postgres', 'postgresql')),
  })
  const config = readConfig({
    APPROVALS_NEEDED: withDefault(integer({ min: 0, max: 10 }), 0),
    JUDGE_EVERY: withDefault(duration, 2000),
    DRAIN_WITHIN: withDefault(duration, 30_000),
    SETTLE_WITHIN: withDefault(duration, 60_000),
  })
  const pools = {
    ledger: createPool(databases.LEDGER_URL, { name, max: 6, log }),
    shop: createPool(databases.SHOP_URL, { name, log }),
    mes: createPool(databases.MES_URL, { name, max: 2, log }),
    intake:
      databases.INTAKE_URL === undefined
        ? undefined
        : createPool(databases.INTAKE_URL, { name, max: 2, log }),
  }
  const evidence = gateEvidence(
    {
      ledger: databases.LEDGER_URL,
      shop: databases.SHOP_URL,
      mes: databases.MES_URL,
      intake: databases.INTAKE_URL,
    },
    gateSettings(readConfig(gateShape)),
    log,
  )
  const connections = service({
    start: () => Promise.resolve(),
    async stop() {
      await evidence.close()
      await Promise.all(Object.values(pools).map(async (pool) => pool?.end()))
    },
  })
  const wanted = wishes(log)
  const { listener } = await openMetrics(log, () => healthOf(wanted))
  return inOrder([
    connections,
    epochLease({ ledger: pools.ledger, kind: 'reconciler', log }),
    reconciler({
      phases: phasesAt(pools).map((phase) =>
        phaseContext(phase, pools, evidence, config.APPROVALS_NEEDED),
      ),
      wishes: wanted,
      judgeEveryMs: config.JUDGE_EVERY,
      drainWithinMs: config.DRAIN_WITHIN,
      settleWithinMs: config.SETTLE_WITHIN,
      log,
    }),
    // A repin that died has left statuses held: nobody needs to say it again.
    pollLoop({
      name: 'repins',
      log,
      idleMs: () => 5000,
      async work() {
        const { finished, toCrm } = await carryOn(pools)
        if (finished > 0) log.info('repins_carried_on', { orders: finished, statusesToCrm: toCrm })
        return false
      },
    }),
    listener,
  ])
})

/** Stale: what people want of a phase is not known, and so nothing of it rises. */
function healthOf(wanted: WishSource | undefined): ReturnType<Health> {
  if (wanted === undefined) return { status: 'ok', wishes: 'stored by the commands' }
  const read = Object.fromEntries(phases.map(({ id }) => [id, wanted.read(id)]))
  const stale = Object.values(read).some(({ state }) => state === 'unknown')
  return { status: stale ? 'stale' : 'ok', wishes: read }
}

/** Undefined without Unleash: then the wish is what the commands store. */
function wishes(wishLog: Log): WishSource | undefined {
  const { UNLEASH_URL: api } = readConfig({ UNLEASH_URL: optional(url('http', 'https')) })
  if (api === undefined) return undefined
  const config = readConfig({
    UNLEASH_CLIENT_TOKEN: text(),
    UNLEASH_BACKUP_DIRECTORY: text(),
    UNLEASH_POLL: withDefault(duration, 1000),
    WISH_AGE_LIMIT: withDefault(duration, 30_000),
  })
  const wish = unleashWish({
    url: api,
    token: config.UNLEASH_CLIENT_TOKEN,
    backupDirectory: config.UNLEASH_BACKUP_DIRECTORY,
    refreshIntervalMs: config.UNLEASH_POLL,
    ageLimitMs: config.WISH_AGE_LIMIT,
    log: wishLog,
  })
  return {
    start: () => wish.start(),
    stop: () => wish.stop(),
    read(phase) {
      const found = wish.of(phase)
      return found.state === 'known'
        ? { state: 'known', share: found.share }
        : { state: 'unknown', reason: found.reason }
    },
  }
}
