import { formatShare } from '../contracts/path-share.ts'
import type { Hop } from '../delivery/order-hops.ts'
import { orderTimeline } from '../delivery/order-timeline.ts'
import type { OrderTimeline } from '../delivery/order-timeline.ts'
import type { StatusTrip } from '../delivery/way-back.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { LivePage } from './live-page.ts'
import { many } from './offered-acts.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { clock, duration } from './words.ts'

type Timeline = OrderTimeline<never, never>

export function orderPage({ ledger }: ConsoleDatabases, orderId: string): LivePage<Timeline> {
  return {
    title: `Order ${orderId.slice(0, 60)}`,
    // What Shop and MES say now only their adapters can read; `strangler order` asks them.
    read: () => orderTimeline<never, never>(ledger, orderId, { shop: undefined, mes: undefined }),
    fragments: (timeline) => ({
      now: whereNow(timeline),
      way: hopBars(timeline.hops, timeline.endToEndMs, 'The order’s way'),
      back: wayBack(timeline.wayBack),
      notes: notes(timeline),
    }),
    content: (part) => html`
      <h1>Order <span class="order-id">${orderId}</span></h1>
      ${part('now')}
      <section aria-labelledby="h-way">
        <h2 id="h-way">Its way, on one clock</h2>
        ${part('way')}
      </section>
      <section aria-labelledby="h-back">
        <h2 id="h-back">What the MES told, on its way back</h2>
        ${part('back')}
      </section>
      <section aria-labelledby="h-notes">
        <h2 id="h-notes">What was done about it</h2>
        ${part('notes')}
      </section>
    `,
  }
}

function whereNow(timeline: Timeline): Html {
  const { hops, path, why, statuses, state, attempts, generation } = timeline
  const current = hops.at(-1)?.leave === undefined ? hops.at(-1) : undefined
  const tries = many(attempts, 'attempt')
  return html`<p class="lead" data-announce="${current?.name ?? 'its way has ended'}">
      ${
        current === undefined
          ? html`Its way has <strong>ended</strong>, after ${duration(timeline.endToEndMs)}.`
          : html`Now: <strong>${current.name}</strong>, since ${clock(new Date(current.enter))}.`
      }
    </p>
    ${next(timeline)}
    <dl class="facts">
      <div>
        <dt>Path</dt>
        <dd><strong>${path}</strong>, ${reason(why)}</dd>
      </div>
      <div>
        <dt>Statuses</dt>
        <dd>
          ${statuses === undefined ? 'none yet; their path is decided at the first' : html`<strong>${statuses.path}</strong>, ${reason(statuses.why)}`}
        </dd>
      </div>
      <div>
        <dt>Delivery</dt>
        <dd>
          ${path === 'legacy' ? 'CRM’s: the ledger only looks on' : `${state.replace('_', ' ')}, ${tries}${generation > 0 ? `, generation ${generation}` : ''}`}
        </dd>
      </div>
    </dl>`
}

/** What a person does now, where somebody has to do something. */
function next({ orderId, state, deadReason, messages, hops }: Timeline): Html {
  const id = /^[\w.-]+$/.test(orderId) ? orderId : `'${orderId.replaceAll("'", String.raw`'\''`)}'`
  const parked = messages.find((message) => message.state === 'parked')
  const status = messages.find(({ inbox }) => inbox?.state === 'parked')?.inbox
  if (state === 'dead')
    return html`<p class="alarm">
      Refused for good: <code>${JSON.stringify(deadReason ?? 'no reason kept')}</code>. Mend the
      cause, then <code>strangler reconcile --redrive</code>.
    </p>`
  if (state === 'in_doubt')
    return html`<p class="note">
      The MES may have it or not. Evidence settles it by itself; where none can, look into the MES,
      then
      <code>strangler settle ${id} --as delivered|absent --why "..."</code>.
    </p>`
  if (status !== undefined)
    return html`<p class="alarm">
      A status is parked: ${status.reason ?? 'no reason kept'}.
      <code>strangler statuses</code> lists it and takes it or drops it.
    </p>`
  if (parked !== undefined)
    return html`<p class="alarm">
      A message is parked at the bridge: ${parked.routingKey} of ${parked.queue}.
      <code>strangler reconcile</code> says what may be done.
    </p>`
  return hops.at(-1)?.leave === undefined
    ? html`<p class="soft">
        Nothing to do here: it goes on by itself, or a person of the house has it.
        <code>strangler order ${id}</code> also asks Shop and MES.
      </p>`
    : html``
}

const ruleWords: Readonly<Record<string, string>> = {
  share: 'by its bucket',
  token: 'admitted by a counted step',
  'no route': 'nothing had moved yet',
  repinned: 'by a repin',
}

function reason({ epoch, rule, share, bucket }: Timeline['why']): string {
  return [
    `epoch ${epoch}`,
    typeof rule === 'string' ? (ruleWords[rule] ?? `by ${rule}`) : 'no rule recorded',
    ...(typeof share === 'number' ? [`at ${formatShare(share)}`] : []),
    ...(typeof bucket === 'number' ? [`bucket ${bucket} of 10 000`] : []),
  ].join(', ')
}

const wide = 1000

/** A row for each hop; the bars lie on one axis, from the first enter to the last leave. */
function hopBars(hops: readonly Hop[], totalMs: number, label: string): Html {
  const start = hops[0]?.enter
  if (start === undefined) return html`<p>Nothing is known yet.</p>`
  const span = Math.max(1, totalMs)
  const slowest = Math.max(...hops.map(({ ms }) => ms ?? 0))
  return html`<table class="way">
    <caption class="unseen">
      ${label}
    </caption>
    <thead class="unseen">
      <tr>
        <th scope="col">Hop</th>
        <th scope="col">When</th>
        <th scope="col">Took</th>
      </tr>
    </thead>
    <tbody>
      ${hops.map(({ name, enter, leave, ms = 0 }) => {
        const width = Math.max(4, (ms / span) * wide)
        const x = Math.min(((enter - start) / span) * wide, wide - width)
        return html`<tr class="${ms === slowest && ms > 0 ? 'worst' : ''}">
          <th scope="row">${name}</th>
          <td>
            <svg viewBox="0 0 ${wide} 16" preserveAspectRatio="none" aria-hidden="true">
              <rect class="track" width="${wide}" height="16" />
              <rect
                class="hop ${leave === undefined ? 'open' : ''}"
                x="${x.toFixed(1)}"
                width="${width.toFixed(1)}"
                height="16"
              />
            </svg>
          </td>
          <td>${leave === undefined ? html`since ${clock(new Date(enter))}` : duration(ms)}</td>
        </tr>`
      })}
    </tbody>
    <tfoot>
      <tr>
        <th scope="row">${hops.at(-1)?.leave === undefined ? 'until now' : 'end to end'}</th>
        <td class="axis soft">
          <span>${clock(new Date(start))}</span><span>${clock(new Date(start + totalMs))}</span>
        </td>
        <td>${hops.at(-1)?.leave === undefined ? '' : duration(totalMs)}</td>
      </tr>
    </tfoot>
  </table>`
}

function wayBack(trips: readonly StatusTrip[]): Html {
  if (trips.length === 0) return html`<p>The MES has told nothing of it yet.</p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby="h-back">
    <table>
      <thead>
        <tr>
          <th scope="col">Told</th>
          <th scope="col">Status</th>
          <th scope="col">To</th>
          <th scope="col">Bridge</th>
          <th scope="col">Status inbox</th>
          <th scope="col">Became</th>
        </tr>
      </thead>
      <tbody>
        ${trips.map(
          (trip) =>
            html`<tr>
              <td>${clock(new Date(trip.hops[0]!.enter))}</td>
              <th scope="row">
                ${trip.status ?? 'no status'}${trip.price !== undefined && ` ${trip.price}`}
              </th>
              <td>${trip.to === 'Shop' ? 'Shop, direct' : 'CRM'}</td>
              <td>${took(trip, 'bridge')}</td>
              <td>${took(trip, 'status inbox')}</td>
              <td>
                ${trip.redriven && 'redriven, '}${trip.state}${trip.reason !== undefined && `: ${trip.reason}`}
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`
}

function took(trip: StatusTrip, name: string): string {
  const hop = trip.hops.find((each) => each.name.startsWith(name))
  if (hop === undefined) return '-'
  return hop.ms === undefined ? 'there now' : duration(hop.ms)
}

function notes({ notes: taken, handOvers }: Timeline): Html {
  const handed = handOvers.map(({ at, phase, fromPath, toPath, who, why, finished }) => ({
    at,
    hop: phase === 'orders-direct' ? 'hand-over' : 'hand-over of its statuses',
    actor: who,
    detail: { from: fromPath, to: toPath, why, finished },
  }))
  const all = [...taken, ...handed].toSorted((a, b) => a.at - b.at)
  if (all.length === 0) return html`<p>Nothing: it went its way by itself.</p>`
  return html`<ol class="moments">
    ${all.map(
      ({ at, hop, actor, detail }) =>
        html`<li class="moment">
          <span class="when">${clock(new Date(at))}</span>
          <span class="what"><b>${hop}</b></span>
          <span class="says"
            ><code>${JSON.stringify(detail)}</code> <span class="soft">${actor}</span></span
          >
        </li>`,
    )}
  </ol>`
}
