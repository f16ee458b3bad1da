import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { LivePage } from './live-page.ts'
import { many } from './offered-acts.ts'
import { readPartners } from './partner-view.ts'
import type { KeyView, PartnerView, WebhookView } from './partner-view.ts'
import { clock, whole } from './words.ts'

/** Who submits where, by which keys; to look at: what changes it are commands, and the page names them. */
export function partnersPage(intake: Pool): LivePage<readonly PartnerView[] | 'unreadable'> {
  return {
    title: 'Partners',
    read: () => readPartners(intake),
    fragments: (partners) => ({
      partners:
        partners === 'unreadable'
          ? html`<p class="alarm">The intake DB does not answer: nothing is known of partners.</p>`
          : partners.length === 0
            ? html`<p>
                None yet. <code>strangler partner import-keys &lt;file&gt;</code> brings those of
                the MES.
              </p>`
            : html`${partners.map(card)}`,
    }),
    content: (part) => html`
      <h1>Partners</h1>
      <p>
        Where each partner’s calls go, and by which keys. Who accepts an order of a partner behind
        the intake is decided by <a href="/phases/partner-intake">partner-intake</a>.
      </p>
      ${part('partners')}
    `,
  }
}

function card(partner: PartnerView): Html {
  const { id, mode, route, requestsPerMinute, uploadsAtOnce } = partner
  const where = { mes: 'at the MES', entering: 'entering', intake: 'behind the intake' }[route]
  return html`<section class="card partner" data-announce="${id} is ${where}">
    <h2>${id} <span class="tag">${where}</span></h2>
    <dl class="facts">
      <div>
        <dt>Calls go</dt>
        <dd>${whereTo(partner)}</dd>
      </div>
      <div>
        <dt>Orders</dt>
        <dd>${orders(partner)}</dd>
      </div>
      <div>
        <dt>Mode</dt>
        <dd>
          ${
            mode === 'strict'
              ? 'strict: an Idempotency-Key is required, errors are problems (RFC 9457)'
              : 'compat: fields, answers and errors of the MES'
          }
        </dd>
      </div>
      <div>
        <dt>Quotas</dt>
        <dd>
          ${whole(requestsPerMinute)} requests a minute, ${many(uploadsAtOnce, 'upload')} at once;
          of each instance
        </dd>
      </div>
      <div>
        <dt>Webhook</dt>
        <dd>${webhook(id, partner.webhook)}</dd>
      </div>
    </dl>
    ${keys(partner)}
  </section>`
}

function whereTo({ id, route, enteredAt }: PartnerView): Html {
  if (route === 'mes') return html`to the MES, past the intake. To enter: ${command('enter', id)}`
  if (route === 'entering')
    return html`what it orders waits at the intake, what it reads is with the MES. Nobody moves it
    any more? ${command('enter', id)} carries it on`
  return html`to the intake${enteredAt !== null && html`, since ${clock(enteredAt)}`}. The way back:
  ${command('release', id)}`
}

function orders({ taken, passedOn, waiting, lastOrderAt }: PartnerView): Html {
  if (lastOrderAt === null) return html`none is known here`
  const wait =
    waiting > 0 &&
    html`; <strong>${many(waiting, 'order')} waiting</strong> to go on to the MES, partners in turn
      (<code>PARTNER_ORDERS_PER_MINUTE</code>)`
  return html`${whole(taken)} taken here and ${whole(passedOn)} passed on within 24 hours; the last
  one at ${clock(lastOrderAt)}${wait}`
}

function webhook(id: string, found: WebhookView | undefined): Html {
  if (found === undefined) return html`none`
  const { host, disabledAt, disabledWhy, open, failing, lastError, nextAttemptAt, dead } = found
  const given =
    dead > 0 &&
    html`<br /><span class="alarm">${many(dead, 'message')} given up within 7 days</span>; to send
      them again: ${command('replay', id, '--since 7d')}`
  if (disabledAt !== null)
    return html`to ${host}, off since
    ${clock(disabledAt)}${disabledWhy !== null && html` (“${disabledWhy}”)`};
    ${many(open, 'message')} would wait for it${given}`
  if (failing > 0)
    return html`to ${host}: <span class="alarm">failing</span>, ${lastError ?? ''}; ${failing} of
      ${many(open, 'open message')} failed at least
      once${nextAttemptAt !== null && html`, the next try at ${clock(nextAttemptAt)}`}${given}`
  const last =
    found.lastDeliveredAt === null
      ? html`nothing was delivered within 7 days`
      : html`last delivered at ${clock(found.lastDeliveredAt)}`
  return html`to ${host}:
  ${open === 0 ? html`nothing waits` : many(open, 'message') + ' under way'}, ${last}${given}`
}

function keys({ id, keys: all }: PartnerView): Html {
  if (all.length === 0)
    return html`<p class="note">
      It has no key. ${command('rotate', id)} makes one;
      <code>strangler partner import-keys &lt;file&gt;</code> brings those of the MES.
    </p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Keys of ${id}">
      <table>
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">Created</th>
            <th scope="col">Last used</th>
            <th scope="col">Revoked</th>
          </tr>
        </thead>
        <tbody>
          ${all.map(keyRow)}
        </tbody>
      </table>
    </div>
    <p class="soft">
      ${liveWords(all)} To change: ${command('rotate', id)}, then
      <code>strangler partner revoke &lt;key&gt;</code>
    </p>`
}

function keyRow({ id, imported, createdAt, lastUsedAt, revokedAt }: KeyView): Html {
  return html`<tr>
    <th scope="row">
      <code>${id}</code>${imported && html` <small class="soft">from the MES</small>`}
    </th>
    <td>${clock(createdAt)}</td>
    <td>${lastUsedAt === null ? 'never' : clock(lastUsedAt)}</td>
    <td>${revokedAt === null ? 'no' : clock(revokedAt)}</td>
  </tr>`
}

function liveWords(all: readonly KeyView[]): string {
  const live = all.filter(({ revokedAt }) => revokedAt === null).length
  return live === 0 ? 'None of them is live.' : `${many(live, 'live key')}.`
}

/** As it is typed: an id may hold whatever the MES calls a partner. */
function command(verb: string, id: string, more = ''): Html {
  const operand = /^[\w.@-]+$/u.test(id) ? id : `'${id.replaceAll("'", String.raw`'\''`)}'`
  return html`<code
    >strangler partner ${verb} ${operand}${more === '' ? '' : ` ${more}`} --why "..."</code
  >`
}
