import { duration, integer, optional, origin, withDefault } from '../../runtime/config.ts'
import type { Reader, Values } from '../../runtime/config.ts'

const paths: Reader<readonly string[]> = (given) => {
  const listed = (given ?? '/').split(',').map((each) => each.trim())
  for (const each of listed)
    if (!/^\/[!-~]*$/.test(each))
      throw new Error(`expected to be paths such as /,/login, got ${each}`)
  return listed
}

/** Read with `readConfig`; every setting has a default. */
export const gateShape = {
  /** So many orders, messages or pairs of requests make evidence. 0: none is needed, for estates that are only tried out. */
  GATE_MINIMUM: withDefault(integer({ min: 0, max: 1_000_000_000 }), 100),
  GATE_WINDOW: withDefault(duration, 86_400_000),
  /** What changed within it is under way. */
  GATE_WATERMARK: withDefault(duration, 60_000),
  /** How long an order or a status may wait where nothing has to be waited for. */
  GATE_LAG: withDefault(duration, 60_000),
  GATE_ADDED_P50_MS: withDefault(integer({ min: 0, max: 60_000 }), 5),
  GATE_ADDED_P99_MS: withDefault(integer({ min: 0, max: 60_000 }), 50),
  /** A source that takes longer has not answered. */
  GATE_TIMEOUT: withDefault(duration, 5000),
  /** Pages are asked for again after it. */
  GATE_PROBE_EVERY: withDefault(duration, 15_000),
  /** What people use, through the proxy; and the legacy process itself. */
  SHOP_DOOR: optional(origin),
  SHOP_UPSTREAM: optional(origin),
  SHOP_PAGES: paths,
  CRM_DOOR: optional(origin),
  CRM_UPSTREAM: optional(origin),
  CRM_PAGES: paths,
  MES_DOOR: optional(origin),
  MES_UPSTREAM: optional(origin),
  MES_PAGES: paths,
} as const satisfies Record<string, Reader<unknown>>

export interface Door {
  readonly name: 'Shop' | 'CRM' | 'MES'
  readonly door: string
  readonly upstream: string
  readonly pages: readonly string[]
}

/** All times in milliseconds. */
export interface GateSettings {
  readonly minimum: number
  readonly windowMs: number
  readonly watermarkMs: number
  readonly lagMs: number
  readonly addedP50Ms: number
  readonly addedP99Ms: number
  readonly timeoutMs: number
  readonly probeEveryMs: number
  /** Those of which both URLs are set. */
  readonly doors: readonly Door[]
  readonly mesUpstream: string | undefined
}

function door(
  name: Door['name'],
  through: string | undefined,
  upstream: string | undefined,
  pages: readonly string[],
): Door[] {
  return through === undefined || upstream === undefined
    ? []
    : [{ name, door: through, upstream, pages }]
}

export function gateSettings(config: Values<typeof gateShape>): GateSettings {
  return {
    minimum: config.GATE_MINIMUM,
    windowMs: config.GATE_WINDOW,
    watermarkMs: config.GATE_WATERMARK,
    lagMs: config.GATE_LAG,
    addedP50Ms: config.GATE_ADDED_P50_MS,
    addedP99Ms: config.GATE_ADDED_P99_MS,
    timeoutMs: config.GATE_TIMEOUT,
    probeEveryMs: config.GATE_PROBE_EVERY,
    doors: [
      ...door('Shop', config.SHOP_DOOR, config.SHOP_UPSTREAM, config.SHOP_PAGES),
      ...door('CRM', config.CRM_DOOR, config.CRM_UPSTREAM, config.CRM_PAGES),
      ...door('MES', config.MES_DOOR, config.MES_UPSTREAM, config.MES_PAGES),
    ],
    mesUpstream: config.MES_UPSTREAM,
  }
}
