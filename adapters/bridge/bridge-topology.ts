import { StranglerError } from '../../contracts/errors.ts'
import type { Binding, Broker } from '../broker/port.ts'
import { bridgeQueue, forwardExchange, linkOf } from '../wire/legacy-topology.ts'

/** The two ways an exchange and a queue of the legacy can be bound: straight, or through our queue. */
export interface BridgeTopology {
  readonly straight: readonly Binding[]
  readonly through: readonly Binding[]
  /** From our exchange to the legacy queue; there as long as our queue is. */
  readonly onward: Binding
}

/**
 * With the patterns that are bound now, whichever way, so that nothing that was bound is forgotten; with those of the estate
 * where the broker does not tell.
 */
export async function bridgeTopology(broker: Broker, queue: string): Promise<BridgeTopology> {
  const link = linkOf(queue)
  if (link === undefined) throw new StranglerError('invalid_argument', `no legacy queue ${queue}`)
  const bound = [
    ...((await broker.bindingsOf(queue)) ?? []),
    ...((await broker.bindingsOf(bridgeQueue(queue))) ?? []),
  ].filter(({ exchange }) => exchange === link.exchange)
  const patterns = [...new Set(bound.map(({ pattern }) => pattern))]
  const wanted = patterns.length > 0 ? patterns : link.keys
  const to = (target: string): Binding[] =>
    wanted.map((pattern) => ({ exchange: link.exchange, queue: target, pattern }))
  return {
    straight: to(queue),
    through: to(bridgeQueue(queue)),
    onward: { exchange: forwardExchange(queue), queue, pattern: '#' },
  }
}

/** What is bound otherwise than this state wants it; undefined where the broker does not tell. */
export async function bindingDrift(
  broker: Broker,
  queue: string,
  inserted: boolean,
): Promise<string[] | undefined> {
  const ofLegacy = await broker.bindingsOf(queue)
  const ofOurs = await broker.bindingsOf(bridgeQueue(queue))
  if (ofLegacy === undefined || ofOurs === undefined) return undefined
  const { straight, through, onward } = await bridgeTopology(broker, queue)
  const present = new Set([...ofLegacy, ...ofOurs].map(say))
  const wanted = inserted ? [...through, onward] : straight
  const unwanted = inserted ? straight : through
  return [
    ...wanted.filter((each) => !present.has(say(each))).map((each) => `missing: ${say(each)}`),
    ...unwanted
      .filter((each) => present.has(say(each)))
      .map((each) => `past the bridge: ${say(each)}`),
  ]
}

function say({ exchange, queue, pattern }: Binding): string {
  return `${exchange} -${pattern}-> ${queue}`
}
