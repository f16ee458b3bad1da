import type { Path } from '../contracts/order.ts'
import { bottleneck } from '../delivery/bottleneck.ts'
import type { Bottleneck, HopLoad } from '../delivery/bottleneck.ts'
import { hopErrors } from '../delivery/hop-errors.ts'
import type { HopErrors } from '../delivery/hop-errors.ts'
import { latencyOverTime } from '../delivery/latency-over-time.ts'
import type { LatencyOverTime } from '../delivery/latency-over-time.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { bottleneckSentence } from './bottleneck-sentence.ts'
import { latencyCharts } from './latency-chart.ts'
import type { LivePage } from './live-page.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { readCourse } from './timeline-view.ts'
import type { Moment } from './timeline-view.ts'
import { duration } from './words.ts'

export const windows = {
  '10m': 600_000,
  '1h': 3_600_000,
  '1d': 86_400_000,
  '7d': 604_800_000,
} as const
export type WindowName = keyof typeof windows

export function isWindow(given: unknown): given is WindowName {
  return typeof given === 'string' && Object.hasOwn(windows, given)
}

interface Hops {
  readonly load: Bottleneck
  readonly errors: readonly HopErrors[]
  readonly latency: LatencyOverTime
  readonly flips: readonly Moment[]
}

const steps = 60

export function hopsPage({ ledger }: ConsoleDatabases, since: WindowName): LivePage<Hops> {
  const sinceMs = windows[since]
  return {
    title: 'Hops',
    async read() {
      const [load, errors, latency, moments] = await Promise.all([
        bottleneck(ledger, sinceMs),
        hopErrors(ledger),
        latencyOverTime(ledger, sinceMs, steps),
        readCourse(ledger, { limit: 50, sinceMs }),
      ])
      const marked = ['advance', 'lower', 'admit', 'rollback', 'kill', 'breach', 'approval']
      return { load, errors, latency, flips: moments.filter(({ kind }) => marked.includes(kind)) }
    },
    fragments: ({ load, errors, latency, flips }) => ({
      bottleneck: html`<p class="lead">${bottleneckSentence(load)}</p>`,
      table: hopTable(load, errors),
      charts: latencyCharts(latency, flips),
    }),
    content: (part) => html`
      <h1>Hops</h1>
      <ul class="choices" aria-label="Window">
        ${Object.keys(windows).map((name) =>
          name === since
            ? html`<li><a href="/hops?since=${name}" aria-current="page">${name}</a></li>`
            : html`<li><a href="/hops?since=${name}">${name}</a></li>`,
        )}
      </ul>
      ${part('bottleneck')}
      <section aria-labelledby="h-load">
        <h2 id="h-load">Legacy and direct side by side</h2>
        ${part('table')}
        <p class="soft">
          Depth: orders there now. Wait: until the work began; service: the work. Errors: what
          stands there until evidence or a person settles it. What the proxy adds is the gate
          <a href="/phases/orders-direct#gates">overhead</a>.
        </p>
      </section>
      <section aria-labelledby="h-charts">
        <h2 id="h-charts">Latency per hop over time</h2>
        ${part('charts')}
      </section>
    `,
  }
}

const paths = ['legacy', 'direct'] as const

function hopTable({ hops, worst }: Bottleneck, errors: readonly HopErrors[]): Html {
  const names = [...new Set([...hops.map(({ hop }) => hop), ...errors.map(({ hop }) => hop)])]
  if (names.length === 0) return html`<p>No order moved in this window.</p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby="h-load">
    <table class="hops">
      <thead>
        <tr>
          <th scope="col" rowspan="2">Hop</th>
          ${paths.map((path) => html`<th scope="colgroup" colspan="4" class="of-${path}">${path}</th>`)}
        </tr>
        <tr>
          ${paths.map(
            (path) =>
              html`<th scope="col" class="of-${path}">Depth</th>
                <th scope="col">Wait p95</th>
                <th scope="col">Service p95</th>
                <th scope="col">Errors</th>`,
          )}
        </tr>
      </thead>
      <tbody>
        ${names.map((name) => {
          const isWorst = worst?.hop === name
          const human = hops.some(({ hop, human: person }) => hop === name && person)
          return html`<tr class="${isWorst ? 'worst' : ''}">
            <th scope="row">
              ${name}${human && html` <small>a person</small>`}${isWorst && html` <small class="tag">bottleneck</small>`}
            </th>
            ${paths.map((path) => cells(name, path, hops, errors))}
          </tr>`
        })}
      </tbody>
    </table>
  </div>`
}

function cells(
  name: string,
  path: Path,
  hops: readonly HopLoad[],
  errors: readonly HopErrors[],
): Html {
  const load = hops.find((each) => each.hop === name && each.path === path)
  const found = errors.find((each) => each.hop === name && each.path === path)
  if (load === undefined && found === undefined)
    return html`<td colspan="4" class="none of-${path}">not on this path</td>`
  return html`<td class="of-${path}">${load?.inFlight ?? 0}</td>
    <td>${load === undefined ? '-' : duration(load.waitP95)}</td>
    <td>${load === undefined ? '-' : duration(load.serviceP95)}</td>
    <td class="${found === undefined ? '' : 'alarm'}">${found?.says ?? '0'}</td>`
}
