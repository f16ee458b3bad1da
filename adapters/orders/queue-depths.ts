import { StranglerError } from '../../contracts/errors.ts'
import type { Sample } from '../../runtime/metrics.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'

/** What is ready in the legacy queues and in ours before them; a bridge that is not in has no queue. */
export async function queueDepths(
  broker: Broker,
  queues: readonly string[],
): Promise<Sample<{ queue: readonly string[] }>[]> {
  const samples: Sample<{ queue: readonly string[] }>[] = []
  for (const queue of queues) {
    for (const [label, name] of [
      [queue, queue],
      [`bridge of ${queue}`, bridgeQueue(queue)],
    ] as const) {
      const ready = await readyIn(broker, name)
      if (ready !== undefined) samples.push({ labels: { queue: label }, value: ready })
    }
  }
  return samples
}

async function readyIn(broker: Broker, queue: string): Promise<number | undefined> {
  try {
    return (await broker.depth(queue)).ready
  } catch (error) {
    if (error instanceof StranglerError && error.code === 'not_found') return undefined
    throw error
  }
}
