import type { LatencyLine, LatencyOverTime } from '../delivery/latency-over-time.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { Moment } from './timeline-view.ts'
import { clock, duration } from './words.ts'

const [width, height] = [600, 60]

/**
 * A picture for each hop, all on one time axis, each with a scale of its own: a hop of seconds would make one of milliseconds flat.
 * Words stand beside the picture and not in it, so that it may be as wide as the screen.
 */
export function latencyCharts(latency: LatencyOverTime, flips: readonly Moment[]): Html {
  const { lines, from, to } = latency
  const hops = [...new Set(lines.map(({ hop }) => hop))]
  if (hops.length === 0) return html`<p>No order left a hop in this window.</p>`
  // Where machines work comes first, the slowest of them on top.
  const slowest = (hop: string): number =>
    Math.max(...of(lines, hop).flatMap(({ points }) => points.map(({ p95 }) => p95)))
  const human = (hop: string): boolean => of(lines, hop).some((line) => line.human)
  const sorted = hops.toSorted(
    (a, b) => Number(human(a)) - Number(human(b)) || slowest(b) - slowest(a),
  )
  return html`<p class="legend">
      <span
        ><svg class="key" viewBox="0 0 30 10" aria-hidden="true">
          <path class="line legacy" d="M1 5H29" />
        </svg>
        legacy p95</span
      >
      <span
        ><svg class="key" viewBox="0 0 30 10" aria-hidden="true">
          <path class="line direct" d="M1 5H29" />
        </svg>
        direct p95</span
      >
      <span
        ><svg class="key" viewBox="0 0 30 10" aria-hidden="true">
          <path class="flip" d="M15 0V10" />
        </svg>
        flip or breach</span
      >
    </p>
    <div class="charts">${sorted.map((hop) => chart(hop, latency, flips))}</div>
    <p class="axis soft"><span>${clock(from)}</span><span>${clock(to)}</span></p>
    ${marks(flips)}`
}

function of(lines: readonly LatencyLine[], hop: string): readonly LatencyLine[] {
  return lines.filter((line) => line.hop === hop)
}

function chart(
  hop: string,
  { lines, from, to, steps }: LatencyOverTime,
  flips: readonly Moment[],
): Html {
  const mine = of(lines, hop)
  const top = Math.max(1, ...mine.flatMap(({ points }) => points.map(({ p95 }) => p95)))
  const x = (step: number): string => (((step + 0.5) / steps) * width).toFixed(1)
  const y = (ms: number): string => (height - 3 - (ms / top) * (height - 8)).toFixed(1)
  const path = ({ points }: LatencyLine): string =>
    points
      .map(({ step, p95 }, index) => {
        const joined = index > 0 && points[index - 1]!.step === step - 1
        // A point that stands alone is a line of no length, which round caps make a dot.
        return joined ? `L${x(step)} ${y(p95)}` : `M${x(step)} ${y(p95)}h0`
      })
      .join('')
  const span = to.getTime() - from.getTime()
  const latest = mine.map((line) => `${line.path} ${duration(line.points.at(-1)!.p95)}`).join(', ')
  return html`<figure>
    <figcaption>
      <b>${hop}</b>${mine.some(({ human }) => human) && html` <small>a person</small>`}
      <span class="soft">up to ${duration(top)}; latest ${latest}</span>
    </figcaption>
    <svg
      viewBox="0 0 ${width} ${height}"
      preserveAspectRatio="none"
      role="img"
      aria-label="p95 of ${hop} over time, up to ${duration(top)}; latest ${latest}"
    >
      <path class="floor" d="M0 ${height - 3}H${width}" />
      ${flips.map(({ at }) => {
        const place = (((at.getTime() - from.getTime()) / span) * width).toFixed(1)
        return html`<path class="flip" d="M${place} 0V${height}" />`
      })}
      ${mine.map((line) => html`<path class="line ${line.path}" d="${path(line)}" />`)}
    </svg>
  </figure>`
}

function marks(flips: readonly Moment[]): Html {
  if (flips.length === 0) return html`<p class="soft">No flip within this window.</p>`
  return html`<ul class="plain soft">
    ${flips.slice(0, 8).map(({ at, kind, phase, says }) => html`<li>${clock(at)} ${kind} ${phase}: ${says}</li>`)}
  </ul>`
}
