import { formatShare } from '../contracts/path-share.ts'
import { gates as knownGates, isGuard } from '../flags/gates.ts'
import type { JudgedGate } from '../flags/gates.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { actForms } from './act-forms.ts'
import { intakeProcesses, readIntakeProcesses } from './intake-processes.ts'
import type { IntakeProcess } from './intake-processes.ts'
import type { LivePage } from './live-page.ts'
import { many } from './offered-acts.ts'
import { epochLine, lastLine, standing } from './phase-summary.ts'
import { readPhaseView } from './phase-view.ts'
import type { ConsoleDatabases, PhaseView } from './phase-view.ts'
import { momentList } from './timeline-page.ts'
import { readCourse } from './timeline-view.ts'
import type { Moment } from './timeline-view.ts'
import { ago, clock, duration, orderLinks, verdictMark } from './words.ts'

interface PhaseModel {
  readonly view: PhaseView
  /** Of a phase that is decided in the intake. */
  readonly ofIntake: readonly IntakeProcess[] | 'unreadable' | undefined
  readonly moments: readonly Moment[]
}

export function phasePage(
  databases: ConsoleDatabases,
  phase: PhaseView['phase'],
): LivePage<PhaseModel> {
  const intake = phase.seam === 'intake' ? databases.intake : undefined
  return {
    title: phase.id,
    async read() {
      const [view, moments, ofIntake] = await Promise.all([
        readPhaseView(databases, phase),
        readCourse(databases.ledger, { phase: phase.id, limit: 8 }),
        intake === undefined ? undefined : readIntakeProcesses(intake),
      ])
      return { view, moments, ofIntake }
    },
    fragments: ({ view, moments, ofIntake }, person) => ({
      standing: html`<div data-announce="${announced(view)}">${standing(view)}</div>
        <p class="soft">${epochLine(view)}. ${lastLine(view)}</p>
        ${countedStep(view)} ${underWay(view)}`,
      acts: actForms(view, person),
      approvals: approvals(view),
      gates: gateList(view.gates),
      replicas: html`${replicas(view)}${ofIntake !== undefined && intakeProcesses(ofIntake)}`,
      moments: momentList(moments),
    }),
    content: (part) => html`
      <h1>${phase.id} <span class="arrow">${phase.arrow.replace('->', '→')}</span></h1>
      <p class="soft">
        Decided once per ${phase.decidedPer}, stored in ${phase.storedIn}.
        <a href="/parity/${phase.id}">What we would do, against what the legacy does</a>${
          intake !== undefined && html`; <a href="/partners">the partners</a>`
        }
      </p>
      ${part('standing')}
      <section aria-labelledby="gates">
        <h2 id="gates">Gates</h2>
        ${part('gates')}
      </section>
      <section aria-labelledby="acts">
        <h2 id="acts">What you can do</h2>
        ${part('approvals')} ${part('acts')}
      </section>
      <section aria-labelledby="h-replicas">
        <h2 id="h-replicas">Processes</h2>
        ${part('replicas')}
      </section>
      <section aria-labelledby="h-moments">
        <h2 id="h-moments">What happened</h2>
        ${part('moments')}
        <p><a href="/timeline?phase=${phase.id}">The whole timeline of ${phase.id}</a></p>
      </section>
    `,
  }
}

function announced({ phase, status, verdict }: PhaseView): string {
  return `${phase.id}: ${formatShare(status.share)} in force, epoch ${status.epoch}, gates ${verdict}`
}

/** What is left of it: the share alone would not say that orders still go the new way. */
function countedStep({ status: { tokens, partner, route, epoch } }: PhaseView): Html | false {
  if (tokens === undefined || typeof route === 'string' || route.epoch !== epoch) return false
  const of = partner === undefined ? '' : ` of ${partner}`
  return html`<p class="soft">
    A counted step: ${tokens - route.tokens} of exactly ${tokens} orders${of} were admitted beyond
    the share${route.tokens > 0 && html`, ${route.tokens} more will be`}.
  </p>`
}

function underWay({ orders, phase }: PhaseView): Html {
  const what = phase.id === 'statuses-direct' ? 'with statuses to come' : 'on their way to the MES'
  return html`<p class="soft">
    Orders ${what}: ${orders.direct} on the direct path, ${orders.legacy} on the legacy path.
  </p>`
}

function gateList(judged: readonly JudgedGate[]): Html {
  return html`<ul class="gates">
    ${judged.map(
      (gate) =>
        html`<li
          class="gate ${gate.verdict.toLowerCase()}"
          data-announce="${gate.verdict} ${gate.gate}"
        >
          <div>
            ${verdictMark(gate.verdict)} <strong>${gate.gate}</strong>
            ${isGuard(gate.gate) && html`<small class="tag">guard</small>`}
          </div>
          <div>
            <p>
              ${gate.says}
              <span class="soft">— ${gate.measured} (need ${gate.needed})</span>
            </p>
            ${gate.orderIds.length > 0 && orderLinks(gate.orderIds)}
            <p class="soft">
              ${asked(gate)} From <code>${gate.source}</code>,
              ${gate.ageMs === undefined ? 'never judged' : html`judged ${ago(gate.ageMs)}`}${
                gate.since !== undefined && html`, so since ${clock(gate.since)}`
              }.
            </p>
            ${
              gate.verdict !== 'PASS' &&
              gate.unblock !== undefined &&
              html`<p class="unblock">To unblock: ${gate.unblock}</p>`
            }
          </div>
        </li>`,
    )}
  </ul>`
}

function asked({ gate }: JudgedGate): string {
  const asks = knownGates.find(({ id }) => id === gate)?.asks ?? ''
  return `${asks.charAt(0).toUpperCase()}${asks.slice(1)}?`
}

function approvals({ approvals: given, nextShare }: PhaseView): Html {
  if (given.length === 0 || nextShare === undefined) return html``
  return html`<ul class="plain">
    ${given.map(
      ({ who, why, share, at, expiresAt }) =>
        html`<li>
          ${who} approved ${formatShare(share)} at ${clock(at)}: “${why}”; it ends at
          ${clock(expiresAt)}
        </li>`,
    )}
  </ul>`
}

function replicas({ phase, replicas: all, status }: PhaseView): Html {
  if (all.length === 0) return html`<p>No process has registered for this phase.</p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Processes">
      <table>
        <thead>
          <tr>
            <th scope="col">Process</th>
            <th scope="col">Host</th>
            <th scope="col">Epoch</th>
            <th scope="col">State</th>
          </tr>
        </thead>
        <tbody>
          ${all.map(
            ({ kind, host, pid, epochs, lapsed, silentMs }) =>
              html`<tr>
                <th scope="row">${kind}</th>
                <td>${host}, pid ${pid}</td>
                <td>${epochs[phase.id] ?? 0}</td>
                <td>
                  ${
                    lapsed
                      ? `silent for ${duration(Math.floor(silentMs / 5000) * 5000)}: it has stopped by itself`
                      : (epochs[phase.id] ?? 0) === status.epoch
                        ? 'on the epoch in force'
                        : 'behind'
                  }
                </td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p class="soft">
      ${many(all.length, 'process').replace('processs', 'processes')} seen within the last hour.
    </p>`
}
