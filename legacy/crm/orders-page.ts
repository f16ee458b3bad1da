import { orderStatuses, type OrderStatus } from '../order-status.ts'
import { html, page, type Html } from '../page.ts'
import { pageLinks } from '../paging.ts'
import type { CrmOrder, OrdersPage } from './crm-orders.ts'

export function ordersPage(shown: OrdersPage, status: OrderStatus | undefined): string {
  return page(
    'Orders - CRM',
    html`<header><h1>Orders</h1></header>
      <form class="row" method="get" action="/">
        <label
          >Status
          <select name="status">
            <option value="">all</option>
            ${orderStatuses.map(
              (one) => html`<option ${one === status ? 'selected' : ''}>${one}</option>`,
            )}
          </select></label
        >
        <button>Show</button>
      </form>
      <ul class="orders">
        ${shown.orders.map(orderItem)}
      </ul>
      ${shown.orders.length === 0 ? html`<p>No orders here.</p>` : ''}
      ${pageLinks('/', status ?? '', shown)}`,
  )
}

function orderItem(order: CrmOrder): Html {
  const who = order.source === 'partner' ? `partner order ${order.external_id ?? ''}` : 'shop'
  const price = order.price === null ? '' : `${order.price} ${order.currency ?? ''}`
  return html`<li>
    <div>
      <p>
        ${order.quantity} &times; ${order.material} <span class="status">${order.status}</span>
        <strong>${price}</strong>
      </p>
      <p class="soft">${order.id} &middot; ${who} &middot; ${order.created_at.toISOString()}</p>
    </div>
    ${order.status === 'PRICE_CALCULATED' ? move(order.id, 'approve', 'Approve') : ''}
    ${order.status === 'SHIPPED' ? move(order.id, 'close', 'Close') : ''}
  </li>`
}

function move(id: string, action: string, label: string): Html {
  return html`<form method="post" action="/orders/${id}/${action}">
    <button aria-label="${label} order ${id}">${label}</button>
  </form>`
}
