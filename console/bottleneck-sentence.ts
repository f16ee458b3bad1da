import type { Bottleneck } from '../delivery/bottleneck.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { many } from './offered-acts.ts'
import { duration } from './words.ts'

export function bottleneckSentence({ worst, windowMs }: Bottleneck): Html {
  if (worst === undefined)
    return html`No order moved within the last ${duration(windowMs)}: nothing can be said.`
  const { hop, path, shareOfTime, kind, waitP95, serviceP95, inFlight } = worst
  const why =
    kind === 'queueing'
      ? `orders stand in line there: wait p95 ${duration(waitP95)}, ${many(inFlight, 'order')} there now`
      : `the work itself takes that long: service p95 ${duration(serviceP95)}`
  return html`The bottleneck of the last ${duration(windowMs)} is <strong>${hop}</strong> on the
    ${path} path, with ${(shareOfTime * 100).toFixed(0)} % of its time; ${why}.`
}
