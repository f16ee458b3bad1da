import { bottleneck } from '../delivery/bottleneck.ts'
import type { Bottleneck } from '../delivery/bottleneck.ts'
import { phasesAt } from '../flags/seams.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { bottleneckSentence } from './bottleneck-sentence.ts'
import { conservationBars } from './conservation-bar.ts'
import { countOrders, unexplainedOf } from './conservation.ts'
import type { PathCount, Unexplained } from './conservation.ts'
import type { LivePage } from './live-page.ts'
import { phaseSummary } from './phase-summary.ts'
import { readPhaseView } from './phase-view.ts'
import type { ConsoleDatabases, PhaseView } from './phase-view.ts'
import { momentList } from './timeline-page.ts'
import { readCourse } from './timeline-view.ts'
import type { Moment } from './timeline-view.ts'
import { orderLinks, verdictMark, whole } from './words.ts'

interface Overview {
  readonly views: readonly PhaseView[]
  readonly unexplained: Unexplained
  readonly counts: readonly PathCount[]
  readonly load: Bottleneck
  readonly moments: readonly Moment[]
}

const windowMs = 600_000
/** A gate names no more. */
const namedAtMost = 20

export function overviewPage(databases: ConsoleDatabases): LivePage<Overview> {
  const { ledger } = databases
  return {
    title: 'Overview',
    async read() {
      const [views, counts, load, moments] = await Promise.all([
        Promise.all(phasesAt(databases).map((phase) => readPhaseView(databases, phase))),
        countOrders(ledger),
        bottleneck(ledger, windowMs),
        readCourse(ledger, { limit: 6 }),
      ])
      const unexplained = unexplainedOf(
        views.map(({ phase, gates }) => ({
          phase: phase.id,
          gate: gates.find(({ gate }) => gate === 'conservation'),
        })),
      )
      return { views, counts, unexplained, load, moments }
    },
    fragments: ({ views, counts, unexplained, load, moments }) => ({
      headline: headline(unexplained, counts),
      phases: html`${views.map(phaseSummary)}`,
      conservation: conservationBars(counts),
      bottleneck: html`<p>${bottleneckSentence(load)}</p>`,
      moments: momentList(moments),
    }),
    content: (part) => html`
      <h1 class="unseen">Where the migration stands</h1>
      ${part('headline')}
      <section aria-labelledby="h-phases">
        <h2 id="h-phases">Phases</h2>
        ${part('phases')}
        ${
          databases.intake !== undefined &&
          html`<p><a href="/partners">Partners, their keys and their orders</a></p>`
        }
      </section>
      <section aria-labelledby="h-orders">
        <h2 id="h-orders">Accepted orders</h2>
        ${part('conservation')}
      </section>
      <section aria-labelledby="h-time">
        <h2 id="h-time">Where the time goes</h2>
        ${part('bottleneck')}
        <p><a href="/hops">Every hop, and its latency over time</a></p>
      </section>
      <section aria-labelledby="h-last">
        <h2 id="h-last">What happened last</h2>
        ${part('moments')}
        <p><a href="/timeline">The whole timeline</a></p>
      </section>
    `,
  }
}

function headline(unexplained: Unexplained, counts: readonly PathCount[]): Html {
  const accepted = counts.reduce((sum, each) => sum + each.accepted, 0)
  if (unexplained.is === 'unknown')
    return html`<div class="headline unknown" data-announce="Unexplained orders: unknown">
      <p class="figure"><strong>unknown</strong> <span>unexplained orders</span></p>
      <p>
        ${verdictMark('INCONCLUSIVE')} Nobody can say now whether an order is missing:
        ${unexplained.says}.
      </p>
    </div>`
  if (unexplained.is === 'none')
    return html`<div class="headline good" data-announce="0 unexplained orders">
      <p class="figure"><strong>0</strong> <span>unexplained orders</span></p>
      <p>${verdictMark('PASS')} ${whole(accepted)} accepted: ${unexplained.says}.</p>
    </div>`
  const { orderIds, says } = unexplained
  const figure =
    orderIds.length === 0
      ? 'some'
      : `${orderIds.length}${orderIds.length >= namedAtMost ? ' or more' : ''}`
  return html`<div class="headline bad" data-announce="${figure} unexplained orders">
    <p class="figure">
      <strong>${figure}</strong>
      <span>unexplained ${orderIds.length === 1 ? 'order' : 'orders'}</span>
    </p>
    <p>${verdictMark('FAIL')} ${says}.</p>
    ${orderIds.length > 0 && orderLinks(orderIds, 10)}
    <p>
      Next: open an order to see the last hop that saw it, then
      <code>strangler reconcile</code> on the command line. Nothing advances meanwhile.
    </p>
  </div>`
}
