import { orderStatuses, type OrderStatus } from '../order-status.ts'
import { html, page, script } from '../page.ts'
import { pageLinks } from '../paging.ts'
import { liveUpdates } from './live-updates.ts'
import type { MesOrder } from './mes-order.ts'
import { orderItem } from './order-item.ts'
import type { OrdersPage } from './orders-in-work.ts'

/** `back` is the query of this page, so that a step leads back to the same filter and page. */
export function ordersInWorkPage(
  shown: OrdersPage,
  status: OrderStatus | undefined,
  back: string,
): string {
  return page(
    'Orders in work - MES',
    html`<header><h1>Orders in work</h1></header>
      <form class="row" method="get" action="/">
        <label
          >Status
          <select name="status">
            <option value="">in work</option>
            ${orderStatuses
              .slice(orderStatuses.indexOf('SUBMITTED'))
              .map((one) => html`<option ${one === status ? 'selected' : ''}>${one}</option>`)}
          </select></label
        >
        <button>Show</button>
      </form>
      <main id="live">
        <ul class="orders">
          ${shown.orders.map((order) => orderItem(order, back))}
        </ul>
        ${shown.orders.length === 0 ? html`<p>No orders here.</p>` : undefined}
        ${pageLinks('/', status ?? '', shown)}
      </main>
      ${script(liveUpdates)}`,
  )
}

export function orderInWorkPage(rows: readonly MesOrder[]): string {
  const [order] = rows
  return page(
    `Order ${order?.order_id ?? ''} - MES`,
    html`<header>
        <h1>Order</h1>
        <a href="/">Orders in work</a>
      </header>
      <main id="live">
        <ul class="orders">
          ${rows.map((row) => orderItem(row, 'order'))}
        </ul>
        ${rows.map(
          (row) =>
            html`<dl>
              <dt>Model</dt>
              <dd>${row.model_key}, ${row.model_bytes} bytes</dd>
              <dt>Customer</dt>
              <dd>${row.customer_tier ?? row.partner ?? ''}</dd>
              <dt>Comment</dt>
              <dd>${row.comment ?? ''}</dd>
            </dl>`,
        )}
      </main>
      ${script(liveUpdates)}`,
  )
}

export function problemPage(message: string): string {
  return page(
    'MES',
    html`<header><h1>MES</h1></header>
      <p class="problem" role="alert">${message}</p>
      <p><a href="/">Orders in work</a></p>`,
  )
}
