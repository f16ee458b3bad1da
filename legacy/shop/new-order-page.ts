import { html, page, script } from '../page.ts'

const materials = ['PLA', 'PETG', 'ABS', 'Resin', 'Nylon', 'Aluminium']

export function newOrderPage(): string {
  return page(
    'Order a print',
    html`<header><h1>Order a print</h1></header>
      <form id="order">
        <label
          >Material
          <select name="material">
            ${materials.map((material) => html`<option>${material}</option>`)}
          </select></label
        >
        <label
          >Quantity <input name="quantity" type="number" min="1" max="1000000" value="1" required
        /></label>
        <label>Comment <textarea name="comment" rows="3" maxlength="10000"></textarea></label>
        <label
          >Client number, if you have one
          <input name="client_id" type="number" min="1" inputmode="numeric"
        /></label>
        <label
          >Model file <input name="model" type="file" required accept=".stl,.3mf,.obj,.step,.stp"
        /></label>
        <button>Order</button>
        <p id="progress" role="status" aria-live="polite"></p>
      </form>
      ${script(orderScript)}`,
  )
}

const orderScript = `
const form = document.getElementById('order')
const progress = document.getElementById('progress')
async function call(method, path, body, headers) {
  const response = await fetch(path, { method, body, headers })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.error.message)
  return answer
}
form.addEventListener('submit', async (event) => {
  event.preventDefault()
  const button = form.querySelector('button')
  const fields = new FormData(form)
  const file = fields.get('model')
  button.disabled = true
  try {
    progress.textContent = 'Creating the order...'
    const order = await call('POST', '/api/orders', JSON.stringify({
      client_id: fields.get('client_id') ? Number(fields.get('client_id')) : null,
      material: fields.get('material'),
      quantity: Number(fields.get('quantity')),
      comment: fields.get('comment') || null,
    }), { 'Content-Type': 'application/json' })
    progress.textContent = 'Uploading ' + file.name + '...'
    await call('PUT', '/api/orders/' + order.id + '/model', file, {
      'Content-Type': 'application/octet-stream',
      'Content-Disposition': "attachment; filename*=UTF-8''" + encodeURIComponent(file.name),
    })
    await call('POST', '/api/orders/' + order.id + '/submit')
    location.href = '/orders/' + order.id
  } catch (error) {
    progress.textContent = 'That did not work: ' + error.message
    button.disabled = false
  }
})
`
