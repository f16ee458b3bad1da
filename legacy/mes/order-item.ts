import { html, type Html } from '../page.ts'
import type { MesOrder } from './mes-order.ts'
import { workStepNames, workSteps } from './work-steps.ts'

export function orderItem(order: MesOrder, back: string): Html {
  const from = order.source === 'partner' ? `partner ${order.partner ?? ''}` : order.source
  const price = order.price === null ? '' : `${order.price} ${order.currency ?? ''}`
  return html`<li id="row-${order.id}">
    <div>
      <p>
        <a href="/orders/${order.order_id}">${order.quantity} &times; ${order.material}</a>
        <span class="status">${order.status}</span> <strong>${price}</strong>
      </p>
      <p class="soft">
        ${order.order_id} &middot; ${from} &middot;
        ${order.received_at.toISOString()}${
          order.operator === null ? '' : html` &middot; taken by ${order.operator}`
        }
      </p>
    </div>
    ${nextStep(order, back)}
  </li>`
}

function nextStep(order: MesOrder, back: string): Html | undefined {
  const step = workStepNames.find((name) => workSteps[name].from === order.status)
  if (step === undefined) return undefined
  const { label } = workSteps[step]
  const operator = html`<label
    >Operator <input name="operator" required maxlength="100" size="12" autocomplete="username"
  /></label>`
  return html`<form class="row" method="post" action="/orders/${order.order_id}/${step}">
    <input type="hidden" name="back" value="${back}" />
    ${step === 'take' ? operator : undefined}
    <button aria-label="${label} order ${order.order_id}">${label}</button>
  </form>`
}
