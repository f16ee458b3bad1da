import type { Backend } from './backend.ts'
import type { Exchange } from './exchange.ts'
import type { FailureCode } from './failure.ts'
import { isPartnerPath } from './partner-path.ts'
import type { PartnerRoutes } from './partner-routes.ts'
import type { PartnerShadow } from './partner-shadow.ts'
import type { HeaderMap } from './request-prelude.ts'

const writing = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/** Where a partner's call goes, by the snapshot in force at its head. It stays there to its end. */
export class PartnerSeam {
  readonly intake: Backend
  readonly #routes: Pick<PartnerRoutes, 'sideOf' | 'beginMesWrite'>

  readonly #shadow: Pick<PartnerShadow, 'watch'> | undefined

  constructor(
    intake: Backend,
    routes: Pick<PartnerRoutes, 'sideOf' | 'beginMesWrite'>,
    shadow?: Pick<PartnerShadow, 'watch'>,
  ) {
    this.intake = intake
    this.#routes = routes
    this.#shadow = shadow
  }

  /** Sets the side of a partner's call, or gives the reason to refuse it. */
  choose(exchange: Exchange): FailureCode | undefined {
    const { method = '', url = '' } = exchange.request
    if (!isPartnerPath(url)) return undefined
    const key = apiKeyOf(exchange.headers)
    const side = this.#routes.sideOf(key)
    if (side === undefined) return 'partner_route_unknown'
    const writes = writing.has(method)
    // While a partner enters, what it orders waits at the intake, and what it reads is still with the MES.
    if (side === 'intake' || (side === 'entering' && writes)) exchange.backend = this.intake
    else if (writes) exchange.mesWrite = this.#routes.beginMesWrite()
    exchange.watch = this.#shadow?.watch(exchange, side, key)
    return undefined
  }
}

/** As the systems behind read it; of several, which no partner sends, they see all in one. */
function apiKeyOf(headers: HeaderMap): string {
  return [headers['x-api-key'] ?? ''].flat().join(', ')
}
