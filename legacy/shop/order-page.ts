import { orderStatuses } from '../order-status.ts'
import { html, page, script } from '../page.ts'
import type { ShopOrder } from './shop-order.ts'

const words: Readonly<Record<(typeof orderStatuses)[number], string>> = {
  INITIATED: 'Order begun',
  FILE_UPLOADED: 'Model uploaded',
  SUBMITTED: 'Order submitted',
  PRICE_CALCULATED: 'Price calculated',
  MANUFACTURING_APPROVED: 'Approved',
  MANUFACTURING_STARTED: 'In production',
  MANUFACTURING_COMPLETED: 'Produced',
  PACKAGING: 'Being packed',
  SHIPPED: 'Shipped',
  CLOSED: 'Closed',
}

export function orderPage(order: ShopOrder): string {
  const reached = orderStatuses.indexOf(order.status)
  const steps = orderStatuses.map((status, position) =>
    position === reached
      ? html`<li class="done" aria-current="step">
          ${words[status]} <span class="status">${status}</span>
        </li>`
      : html`<li class="${position < reached ? 'done' : ''}">${words[status]}</li>`,
  )
  const price = order.price === null ? 'not known yet' : `${order.price} ${order.currency ?? ''}`
  return page(
    `Order ${order.id}`,
    html`<header>
        <h1>Your order</h1>
        <a href="/">Another order</a>
      </header>
      <main id="order" data-state="${order.status} ${order.price}">
        <dl>
          <dt>Number</dt>
          <dd>${order.id}</dd>
          <dt>Price</dt>
          <dd id="price">${price}</dd>
          <dt>Material</dt>
          <dd>${order.quantity} &times; ${order.material}</dd>
          ${
            order.comment === null
              ? ''
              : html`<dt>Comment</dt>
                  <dd>${order.comment}</dd>`
          }
        </dl>
        <h2>Where it is</h2>
        <ol class="ladder">
          ${steps}
        </ol>
      </main>
      ${script(refreshScript)}`,
  )
}

const refreshScript = `
setInterval(async () => {
  const main = document.getElementById('order')
  const response = await fetch(location.href).catch(() => undefined)
  if (!response || !response.ok) return
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').getElementById('order')
  if (fresh && fresh.dataset.state !== main.dataset.state) main.replaceWith(fresh)
}, 1000)
`
