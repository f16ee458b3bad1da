/** Runs in the page: on every change the list is fetched again; rows that did not change stay, with what is typed in them. */
export const liveUpdates = `
const key = 'operator'
const served = new Map()
function remember(list) {
  for (const row of list.querySelectorAll('.orders > li')) served.set(row.id, row.outerHTML)
}
function fillOperator() {
  for (const input of document.querySelectorAll('input[name=operator]')) {
    if (!input.value) input.value = sessionStorage.getItem(key) || ''
  }
}
document.addEventListener('input', (event) => {
  if (event.target.name === 'operator') sessionStorage.setItem(key, event.target.value)
})
let fetching = false
let again = false
async function refresh() {
  if (fetching) { again = true; return }
  fetching = true
  try {
    const response = await fetch(location.href, { cache: 'no-store' })
    if (response.ok) show(new DOMParser().parseFromString(await response.text(), 'text/html'))
  } catch {
    // The next event or reconnect tries again.
  }
  fetching = false
  if (again) { again = false; setTimeout(refresh, 50) }
}
function show(fresh) {
  const live = document.getElementById('live')
  const next = fresh.getElementById('live')
  if (!next) return
  const focused = document.activeElement
  for (const row of next.querySelectorAll('.orders > li')) {
    const old = document.getElementById(row.id)
    const html = row.outerHTML
    if (old && served.get(row.id) === html) row.replaceWith(old)
    else served.set(row.id, html)
  }
  live.replaceChildren(...next.childNodes)
  fillOperator()
  if (focused && focused !== document.body && focused.isConnected) focused.focus()
}
remember(document.getElementById('live'))
fillOperator()
const events = new EventSource('/events')
events.addEventListener('orders', refresh)
events.addEventListener('open', refresh)
`
