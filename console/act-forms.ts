import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { csrfField } from './layout.ts'
import { offeredActs } from './offered-acts.ts'
import type { OfferedAct } from './offered-acts.ts'
import type { Person } from './people.ts'
import type { PhaseView } from './phase-view.ts'

/** Each act with its effect, a reason to give, and a button that says why it can't be pressed. */
export function actForms(view: PhaseView, person: Person): Html {
  return html`<div class="acts">
    ${offeredActs(view, person).map((act) => form(view, act, person))}
  </div>`
}

function form(view: PhaseView, act: OfferedAct, person: Person): Html {
  const { name, label, effect, blocked, share, isWayBack } = act
  const id = `act-${name}`
  const described = blocked === undefined ? `${id}-effect` : `${id}-effect ${id}-blocked`
  return html`<form
    class="act ${isWayBack ? 'back' : ''} ${blocked === undefined ? '' : 'off'}"
    method="post"
    action="/phases/${view.phase.id}/${name}"
    data-act="${name}"
  >
    ${csrfField(person)}
    <input type="hidden" name="epoch" value="${view.status.epoch}" />
    ${share !== undefined && html`<input type="hidden" name="share" value="${share}" />`}
    <h3>${label}</h3>
    <p id="${id}-effect">${effect}</p>
    ${
      blocked === undefined
        ? html`<label for="${id}-why">Because</label>
            <input id="${id}-why" name="why" required maxlength="500" autocomplete="off" />
            <button aria-describedby="${described}">${label}</button>`
        : html`<p id="${id}-blocked" class="blocked">Not now: ${blocked}.</p>
            <button disabled aria-describedby="${described}">${label}</button>`
    }
  </form>`
}
