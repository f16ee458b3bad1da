// Keeps the page live. Without this script every page is whole, and of the moment at which it was loaded.

const main = document.getElementById('main')
const events = main?.dataset.events ?? ''
if (events !== '') live(events)

/** @param {string} address */
function live(address) {
  const connection = document.getElementById('connection')
  const asOf = document.getElementById('as-of')
  // The server says something at least so often, so that a silent line is known to be dead.
  const silenceMs = 30_000
  let source
  let silence

  const trouble = (text, link) => {
    connection.hidden = false
    document.documentElement.classList.add('stale')
    const said = `${text}; what you see is of ${asOf.textContent.trim()}.`
    if (connection.dataset.said === said) return
    connection.dataset.said = said
    connection.replaceChildren(`${said} `)
    if (link === undefined) return
    const anchor = document.createElement('a')
    anchor.href = link.href
    anchor.textContent = link.text
    connection.append(anchor)
  }
  const well = () => {
    connection.hidden = true
    delete connection.dataset.said
    document.documentElement.classList.remove('stale')
  }
  const signIn = () => {
    const next = encodeURIComponent(location.pathname + location.search)
    trouble('You are signed in no more', { href: `/login?next=${next}`, text: 'Sign in' })
  }
  const listen = () => {
    clearTimeout(silence)
    silence = setTimeout(() => {
      trouble('Connection lost, trying again')
      connect()
    }, silenceMs)
  }
  const connect = () => {
    source?.close()
    source = new EventSource(address)
    listen()
    source.addEventListener('parts', ({ data }) => {
      listen()
      const { at, parts } = JSON.parse(data)
      well()
      if (Object.keys(parts).length === 0) return
      renew(parts)
      const time = document.createElement('time')
      time.dateTime = at
      time.textContent = at.slice(11, 19)
      asOf.replaceChildren(time)
    })
    source.addEventListener('trouble', ({ data }) => {
      listen()
      trouble(JSON.parse(data).says)
    })
    source.addEventListener('ended', () => {
      clearTimeout(silence)
      source.close()
      signIn()
    })
    source.addEventListener('error', () => {
      trouble('Connection lost, trying again')
      // Refused, and not only broken: the browser does not try again by itself.
      if (source.readyState !== EventSource.CLOSED) return
      clearTimeout(silence)
      fetch(location.href, { method: 'HEAD', redirect: 'manual' }).then(
        ({ status }) => (status === 401 ? signIn() : setTimeout(connect, 5000)),
        () => setTimeout(connect, 5000),
      )
    })
  }
  connect()
  addEventListener('pagehide', () => source.close())
  addEventListener('pageshow', ({ persisted }) => persisted && connect())
}

/** @param {Record<string, string>} parts */
function renew(parts) {
  const before = announcements()
  for (const [id, text] of Object.entries(parts)) {
    const part = document.getElementById(`part-${id}`)
    if (part === null) continue
    const template = document.createElement('template')
    template.innerHTML = text
    children(part, template.content)
  }
  const now = announcements()
  const said = now.filter((text) => !before.includes(text))
  if (said.length > 0) document.getElementById('changes').textContent = said.join('. ')
}

function announcements() {
  return [...document.querySelectorAll('[data-announce]')].map(({ dataset }) => dataset.announce)
}

/** Changes what differs and leaves the rest in place: focus, selection, what is typed, what is folded out. */
function children(old, fresh) {
  const wanted = [...fresh.childNodes]
  for (const [index, node] of wanted.entries()) {
    const there = old.childNodes[index]
    if (there === undefined) old.append(node)
    else if (there.nodeType !== node.nodeType || there.nodeName !== node.nodeName)
      there.replaceWith(node)
    else if (node.nodeType === Node.ELEMENT_NODE) element(there, node)
    else if (there.nodeValue !== node.nodeValue) there.nodeValue = node.nodeValue
  }
  while (old.childNodes.length > wanted.length) old.lastChild.remove()
}

function element(old, fresh) {
  if (old.isEqualNode(fresh)) return
  if (old.matches('form[data-act]') && isInHand(old)) {
    // What a button does must not change under somebody's finger.
    outdated(old)
    return
  }
  for (const name of old.getAttributeNames())
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name)
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  children(old, fresh)
}

function isInHand(form) {
  const typed = [...form.querySelectorAll('input:not([type=hidden])')].some(
    ({ value }) => value !== '',
  )
  return typed || form.contains(document.activeElement)
}

function outdated(form) {
  if (form.querySelector('.outdated') !== null) return
  const note = document.createElement('p')
  note.className = 'outdated alarm'
  note.setAttribute('role', 'status')
  note.textContent = 'This has changed since you began. '
  const reload = document.createElement('a')
  reload.href = location.href
  reload.textContent = 'Load the page again before you press.'
  note.append(reload)
  form.append(note)
}
