import { formatShare } from '../contracts/path-share.ts'
import type { Replica } from '../flags/replicas.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { many } from './offered-acts.ts'
import { phaseLadder } from './phase-ladder.ts'
import type { PhaseView } from './phase-view.ts'
import { wanted } from './wanted.ts'
import { clock, verdictMark } from './words.ts'

/** A phase in a few lines. */
export function phaseSummary(view: PhaseView): Html {
  const { phase, status, verdict } = view
  const said = `${phase.id}: ${formatShare(status.share)} in force, gates ${verdict}`
  return html`<article class="card" data-announce="${said}">
    <h3>
      <a href="/phases/${phase.id}">${phase.id}</a>
      <span class="arrow">${phase.arrow.replace('->', '→')}</span>
    </h3>
    ${standing(view)}
    <p class="gates-line">${gatesLine(view)}</p>
    <p class="soft">${epochLine(view)}. ${lastLine(view)}</p>
  </article>`
}

/** In force against wanted, and what lies between the two. */
export function standing(view: PhaseView): Html {
  const { status } = view
  const { pin } = status
  const wish = wanted(view)
  return html`<p class="shares">
      <span><strong>${formatShare(status.share)}</strong> in force</span>
      ${
        wish.share === undefined
          ? html`<span class="${wish.alarming ? 'alarm' : 'soft'}">${wish.word}</span>`
          : html`<span><strong>${formatShare(wish.share)}</strong> wanted</span>`
      }
      ${
        pin !== undefined &&
        html`<span class="pin"
          >${{ hold: 'held', rollback: 'rolled back', kill: 'killed' }[pin.kind]}</span
        >`
      }
    </p>
    ${phaseLadder(view)}
    ${wish.says !== undefined && html`<p class="${wish.alarming ? 'alarm' : 'note'}">${wish.says}</p>`}
    ${
      pin !== undefined &&
      html`<p class="note">
        ${pin.who}, ${clock(pin.at)}: “${pin.why}”. It stays there whatever is wanted, until
        resumed.
      </p>`
    }
    ${routeNote(view)}`
}

function routeNote({ status, phase }: PhaseView): Html | false {
  const { route, epoch, share } = status
  const database = { shop: 'Shop DB', ledger: 'ledger', intake: 'intake DB' }[phase.seam]
  if (route === 'unreadable')
    return html`<p class="alarm">
      The ${database} does not answer: what is in force there was not checked.
    </p>`
  const found = route === 'absent' ? { epoch: 0, share: 0 } : route
  if (found.share === share && (found.epoch === epoch || share === 0)) return false
  return html`<p class="alarm">
    The route in the ${database} says ${formatShare(found.share)}, epoch ${found.epoch}; the journal
    says otherwise. The next verb settles it.
  </p>`
}

function gatesLine({ gates, verdict, phase }: PhaseView): Html {
  const open = gates.filter((gate) => gate.verdict !== 'PASS')
  const worst = open.find((gate) => gate.verdict === 'FAIL') ?? open[0]
  if (worst === undefined)
    return html`${verdictMark(verdict)} all ${gates.length} gates
      <a href="/phases/${phase.id}#gates">with their values</a>`
  return html`${verdictMark(worst.verdict)} <strong>${worst.gate}</strong>: ${worst.says}
    ${
      open.length > 1 &&
      html`<a href="/phases/${phase.id}#gates"
        >and ${many(open.length - 1, 'more gate')} of ${gates.length}</a
      >`
    }`
}

export function epochLine({ phase, status, replicas }: PhaseView): Html {
  const alive = replicas.filter((each) => !each.lapsed)
  const here = alive.filter(({ epochs }) => (epochs[phase.id] ?? 0) === status.epoch).length
  const steps = {
    intended: ', the flip is only intended',
    'in force': ', not complete yet',
    complete: '',
    abandoned: ', found and taken over',
  } as const
  const step =
    status.epoch === 0 ? '' : (steps[status.step as keyof typeof steps] ?? `, ${status.step}`)
  return html`Epoch ${status.epoch}${step}; ${replicaWords(replicas, alive.length, here)}`
}

function replicaWords(replicas: readonly Replica[], alive: number, here: number): string {
  if (replicas.length === 0) return 'no process has registered'
  const silent = replicas.length - alive
  return `${here} of ${many(alive, 'process').replace('processs', 'processes')} on it${silent === 0 ? '' : `, ${silent} silent`}`
}

export function lastLine({ status: { last } }: PhaseView): Html {
  if (last === undefined) return html`Never moved.`
  return html`Last: ${last.verb} by ${last.who}, ${clock(last.at)}: “${last.why}”`
}
