import { html } from '../runtime/html.ts'
import type { LivePage } from './live-page.ts'
import { listedAtMost, listOrders, orderFilters } from './order-list.ts'
import type { ListedOrder, OrderFilter } from './order-list.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { clock, orderLink } from './words.ts'

const filterNames = {
  'on-its-way': 'on the way',
  in_doubt: 'in doubt',
  dead: 'refused for good',
} as const

export function ordersPage(
  { ledger }: ConsoleDatabases,
  text: string,
  filter: OrderFilter | undefined,
): LivePage<readonly ListedOrder[]> {
  return {
    title: 'Orders',
    read: () => listOrders(ledger, { text, filter }),
    fragments: (orders) => ({
      list:
        orders.length === 0
          ? html`<p>No order ${text === '' ? 'here' : 'whose id begins so'}.</p>`
          : html`<div class="scroll" tabindex="0" role="region" aria-label="Orders">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Order</th>
                    <th scope="col">Path</th>
                    <th scope="col">Statuses</th>
                    <th scope="col">State</th>
                    <th scope="col">Accepted</th>
                  </tr>
                </thead>
                <tbody>
                  ${orders.map(
                    (order) =>
                      html`<tr>
                        <th scope="row">${orderLink(order.orderId)}</th>
                        <td>${order.path}</td>
                        <td>${order.statusPath ?? 'none yet'}</td>
                        <td>${order.state.replace('_', ' ')}</td>
                        <td>${clock(order.acceptedAt)}</td>
                      </tr>`,
                  )}
                </tbody>
              </table>
            </div>`,
    }),
    content: (part) => html`
      <h1>Orders</h1>
      <form class="row" method="get" action="/orders" role="search">
        <label for="q">Order id, its beginning, or the source’s own number</label>
        <input id="q" name="q" value="${text}" maxlength="500" autocomplete="off" />
        <button>Find</button>
      </form>
      <ul class="choices" aria-label="State">
        ${[undefined, ...orderFilters].map(
          (name) =>
            html`<li>
              ${
                name === filter
                  ? html`<a
                      aria-current="page"
                      href="/orders${name === undefined ? '' : `?state=${name}`}"
                      >${name === undefined ? 'latest' : filterNames[name]}</a
                    >`
                  : html`<a href="/orders${name === undefined ? '' : `?state=${name}`}"
                      >${name === undefined ? 'latest' : filterNames[name]}</a
                    >`
              }
            </li>`,
        )}
      </ul>
      ${part('list')}
      <p class="soft">At most ${listedAtMost}.</p>
    `,
  }
}
