import { asStranglerError, StranglerError } from '../../contracts/errors.ts'
import type { ErrorCode } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'

export interface GateUrls {
  readonly ledger: string
  /** Not set: the gates that need it are inconclusive. */
  readonly shop: string | undefined
  readonly mes: string | undefined
  readonly intake: string | undefined
}

/** What throws names its side: whatever a gate asks of the Shop fails as `shop_unavailable`. */
export interface GateSources {
  readonly ledger: Pool
  readonly shop: <Result>(ask: (shop: Pool) => Promise<Result>) => Promise<Result>
  readonly mes: <Result>(ask: (mes: Pool) => Promise<Result>) => Promise<Result>
  readonly intake: <Result>(ask: (intake: Pool) => Promise<Result>) => Promise<Result>
  close(): Promise<void>
}

/** Pools of their own, because a source that does not answer in time must not be waited for. */
export function gateSources(urls: GateUrls, answerWithinMs: number, log: Log): GateSources {
  const open = (url: string): Pool =>
    createPool(url, { name: 'strangler-gates', max: 4, answerWithinMs, log })
  const pools = {
    ledger: open(urls.ledger),
    shop: urls.shop === undefined ? undefined : open(urls.shop),
    mes: urls.mes === undefined ? undefined : open(urls.mes),
    intake: urls.intake === undefined ? undefined : open(urls.intake),
  }
  return {
    ledger: pools.ledger,
    shop: asking(pools.shop, 'shop_unavailable', 'SHOP_URL'),
    mes: asking(pools.mes, 'mes_unavailable', 'MES_URL'),
    intake: asking(pools.intake, 'intake_unavailable', 'INTAKE_URL'),
    async close() {
      await Promise.allSettled(
        [pools.ledger, pools.shop, pools.mes, pools.intake].map(async (pool) => pool?.end()),
      )
    },
  }
}

function asking(pool: Pool | undefined, code: ErrorCode, setting: string): GateSources['shop'] {
  return async (ask) => {
    if (pool === undefined) throw new StranglerError(code, `${setting} is not set`)
    try {
      return await ask(pool)
    } catch (error) {
      throw asStranglerError(error, code)
    }
  }
}
