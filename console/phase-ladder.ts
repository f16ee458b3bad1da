import { formatShare } from '../contracts/path-share.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { PhaseView } from './phase-view.ts'
import { wanted } from './wanted.ts'

/** The steps from 0 up, with where the phase stands and where it is wanted. */
export function phaseLadder(view: PhaseView): Html {
  const { phase, status } = view
  const wish = wanted(view).share
  const shares = [
    ...new Set([0, ...phase.steps, status.share, ...(wish === undefined ? [] : [wish])]),
  ]
  return html`<ol class="ladder" aria-label="Steps of ${phase.id}">
    ${shares
      .toSorted((a, b) => a - b)
      .map((share) => {
        const tags = [
          ...(share === status.share ? ['in force'] : []),
          ...(share === wish ? ['wanted'] : []),
        ]
        const reached = share <= status.share && status.share > 0
        return html`<li
          class="${reached ? 'reached' : ''} ${share === status.share ? 'here' : ''} ${share === wish ? 'wished' : ''}"
        >
          <span class="dot" aria-hidden="true"></span>
          <b>${formatShare(share)}</b> <small>${tags.join(', ')}</small>
        </li>`
      })}
  </ol>`
}
