import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { PathCount } from './conservation.ts'
import { whole } from './words.ts'

const parts = [
  { key: 'closed', name: 'closed', state: undefined },
  { key: 'inWork', name: 'in the MES, being worked on', state: undefined },
  { key: 'onItsWay', name: 'on the way to the MES', state: 'on-its-way' },
  { key: 'inDoubt', name: 'in doubt', state: 'in_doubt' },
  { key: 'dead', name: 'refused for good', state: 'dead' },
  { key: 'cancelled', name: 'cancelled', state: undefined },
] as const

const wide = 1000

/** A bar for each path; its parts add up to what was accepted, and each stands below in words. */
export function conservationBars(counts: readonly PathCount[]): Html {
  return html`${counts.map(bar)}`
}

function bar(count: PathCount): Html {
  const shown = parts.filter(({ key }) => count[key] > 0)
  const total = Math.max(1, count.accepted)
  let x = 0
  const rects = shown.map(({ key }) => {
    // A single order of a million must be seen.
    const width = Math.max(6, (count[key] / total) * wide)
    const rect = html`<rect
      class="bar-${key}"
      x="${x.toFixed(1)}"
      y="0"
      width="${width.toFixed(1)}"
      height="20"
    />`
    x += width
    return rect
  })
  return html`<div class="conservation">
    <h3>
      ${count.path === 'legacy' ? 'Through CRM (legacy)' : 'Past CRM (direct)'}:
      ${whole(count.accepted)}
    </h3>
    <svg
      class="bar"
      viewBox="0 0 ${Math.max(wide, Math.ceil(x))} 20"
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      ${rects}
    </svg>
    <ul class="legend">
      ${shown.map(
        ({ key, name, state }) =>
          html`<li>
            <svg viewBox="0 0 10 10" aria-hidden="true">
              <rect class="bar-${key}" width="10" height="10" />
            </svg>
            ${
              state === undefined
                ? html`${whole(count[key])} ${name}`
                : html`<a href="/orders?state=${state}">${whole(count[key])} ${name}</a>`
            }
          </li>`,
      )}
      ${shown.length === 0 && html`<li>no order yet</li>`}
    </ul>
  </div>`
}
