import { parityReport } from '../delivery/parity-report.ts'
import type { FieldReport, ParityReport } from '../delivery/parity-report.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { csrfField } from './layout.ts'
import type { LivePage } from './live-page.ts'
import { many } from './offered-acts.ts'
import type { Person } from './people.ts'
import type { ConsoleDatabases, PhaseView } from './phase-view.ts'
import { clock, orderLink, whole } from './words.ts'

export function parityPage(
  { ledger }: ConsoleDatabases,
  phase: PhaseView['phase'],
): LivePage<ParityReport> {
  return {
    title: `Parity of ${phase.id}`,
    read: () => parityReport(ledger, phase.id, undefined),
    fragments: (report, person) => ({
      summary: summary(report),
      fields: fieldTree(report, person),
    }),
    content: (part) => html`
      <h1>Parity of <a href="/phases/${phase.id}">${phase.id}</a></h1>
      <p class="soft">
        Of everything that went the legacy way: what we would have done, against what was done.
      </p>
      ${part('summary')} ${part('fields')}
    `,
  }
}

function summary({ compared, differing, differingOrders, fields }: ParityReport): Html {
  const accepted = fields.filter((each) => each.accepted !== undefined)
  const noise = accepted.reduce((sum, each) => sum + each.differences, 0)
  if (compared === 0)
    return html`<p class="lead">
      Nothing is compared yet, so nothing can be said. Is the shadow running, and do orders go
      through CRM?
    </p>`
  return html`<dl class="figures" data-announce="${differingOrders} orders differ">
    <div>
      <dt>messages compared</dt>
      <dd>${whole(compared)}</dd>
    </div>
    <div>
      <dt>of them differ</dt>
      <dd>${whole(differing)}</dd>
    </div>
    <div>
      <dt>orders that differ, not accepted</dt>
      <dd>${whole(differingOrders)}</dd>
    </div>
    <div>
      <dt>differences accepted as noise</dt>
      <dd>${whole(noise)}</dd>
    </div>
  </dl>`
}

interface Branch {
  readonly name: string
  readonly own: FieldReport | undefined
  readonly below: Branch[]
}

/** `model.key` and `model.bytes` stand below `model`. */
export function treeOf(fields: readonly FieldReport[], depth = 0): Branch[] {
  const names = [
    ...new Set(
      fields.map(({ field }) =>
        field
          .split('.')
          .slice(0, depth + 1)
          .join('.'),
      ),
    ),
  ]
  return names.map((name) => {
    const mine = fields.filter(({ field }) => field === name || field.startsWith(`${name}.`))
    return {
      name,
      own: mine.find(({ field }) => field === name),
      below: treeOf(
        mine.filter(({ field }) => field !== name),
        depth + 1,
      ),
    }
  })
}

function fieldTree({ phase, fields, compared }: ParityReport, person: Person): Html {
  if (fields.length === 0) return compared === 0 ? html`` : html`<p>No field differs.</p>`
  return html`<ul class="tree">
    ${treeOf(fields).map((branch) => branchOf(phase, branch, person))}
  </ul>`
}

function branchOf(phase: string, { name, own, below }: Branch, person: Person): Html {
  return html`<li>
    ${own === undefined ? html`<p class="branch">${name}</p>` : fieldOf(phase, own, person)}
    ${
      below.length > 0 &&
      html`<ul class="tree">
        ${below.map((each) => branchOf(phase, each, person))}
      </ul>`
    }
  </li>`
}

function fieldOf(phase: string, report: FieldReport, person: Person): Html {
  const { field, differences, orders, accepted, samples } = report
  const id = `field-${Buffer.from(field).toString('hex').slice(0, 60)}`
  return html`<details class="card" id="${id}">
    <summary>
      <b>${field}</b> ${many(differences, 'difference')} in ${many(orders, 'order')}
      ${
        accepted === undefined
          ? html`<span class="tag alarm">open</span>`
          : html`<span class="tag">accepted until ${clock(accepted.until)}</span>`
      }
    </summary>
    ${accepted !== undefined && html`<p class="note">${accepted.who} accepts it until ${clock(accepted.until)}: “${accepted.why}”</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Samples of ${field}">
      <table>
        <thead>
          <tr>
            <th scope="col">Order</th>
            <th scope="col">Ours</th>
            <th scope="col">CRM’s</th>
            <th scope="col">Found</th>
          </tr>
        </thead>
        <tbody>
          ${samples.map(
            ({ orderId, ours, theirs, at }) =>
              html`<tr>
                <th scope="row">${orderLink(orderId)}</th>
                <td><code>${ours ?? 'absent'}</code></td>
                <td><code>${theirs ?? 'absent'}</code></td>
                <td>${clock(at)}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${differences > samples.length && html`<p class="soft">The latest ${samples.length}.</p>`}
    ${acceptForm(phase, report, person)}
  </details>`
}

function acceptForm(phase: string, { field, accepted }: FieldReport, person: Person): Html {
  const label = accepted === undefined ? `Accept differences in ${field}` : `Accept ${field} anew`
  if (person.role !== 'operator')
    return html`<p class="blocked">
        Not now: you are signed in as a reader: an operator may accept it.
      </p>
      <button disabled>${label}</button>`
  return html`<form class="row" method="post" action="/parity/${phase}/accept" data-act="accept">
    ${csrfField(person)}
    <input type="hidden" name="field" value="${field}" />
    <p>The gate counts it no more until that day begins; then it counts again by itself.</p>
    <label>Until <input type="date" name="until" required /></label>
    <label>Because <input name="why" required maxlength="500" autocomplete="off" /></label>
    <button>${label}</button>
  </form>`
}
