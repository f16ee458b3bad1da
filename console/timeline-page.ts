import { phases } from '../flags/phases.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { LivePage } from './live-page.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { readCourse, readDeeds } from './timeline-view.ts'
import type { Moment } from './timeline-view.ts'
import { clock } from './words.ts'

const shown = 200

export function timelinePage(
  { ledger }: ConsoleDatabases,
  phase: string | undefined,
): LivePage<readonly Moment[]> {
  return {
    title: 'Timeline',
    read: () =>
      readCourse(ledger, {
        limit: shown,
        ...(phase === undefined ? {} : { phase }),
      }),
    fragments: (moments) => ({ moments: momentList(moments) }),
    content: (part) => html`
      <h1>Timeline</h1>
      <p>Flips, what people did, and gates that changed; the latest ${shown}, the latest first.</p>
      <ul class="choices" aria-label="Phase">
        ${[undefined, ...phases.map(({ id }) => id)].map(
          (id) =>
            html`<li>
              ${
                id === phase
                  ? html`<a
                      href="/timeline${id === undefined ? '' : `?phase=${id}`}"
                      aria-current="page"
                      >${id ?? 'all'}</a
                    >`
                  : html`<a href="/timeline${id === undefined ? '' : `?phase=${id}`}"
                      >${id ?? 'all'}</a
                    >`
              }
            </li>`,
        )}
      </ul>
      ${part('moments')}
    `,
  }
}

export function auditPage({ ledger }: ConsoleDatabases): LivePage<readonly Moment[]> {
  return {
    title: 'Audit',
    read: () => readDeeds(ledger, shown),
    fragments: (moments) => ({ moments: momentList(moments) }),
    content: (part) => html`
      <h1>Audit</h1>
      <p>
        What people did, also what was refused to them, and who logged in; the latest ${shown}, the
        latest first.
      </p>
      ${part('moments')}
    `,
  }
}

export function momentList(moments: readonly Moment[]): Html {
  if (moments.length === 0) return html`<p>Nothing yet.</p>`
  return html`<ol class="moments">
    ${moments.map(
      ({ kind, phase, who, says, at, detail }) =>
        html`<li class="moment kind-${kind.replaceAll(/[^a-z]/g, '')}">
          <span class="when">${clock(at)}</span>
          <span class="what"
            ><b>${kind}</b
            >${phase !== undefined && html` <a href="/phases/${encodeURIComponent(phase)}">${phase}</a>`}</span
          >
          <span class="says">${says}${because(detail)} <span class="soft">${who}</span></span>
        </li>`,
    )}
  </ol>`
}

function because({ why }: Moment['detail']): string {
  return typeof why === 'string' && why !== '' ? `: “${why}”` : ''
}
