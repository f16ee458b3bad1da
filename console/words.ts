import type { Verdict } from '../flags/gates.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'

/** `0.4 ms`, `12 ms`, `4.6 s`, `3 min 12 s`, `5 h 7 min`, `2 d 3 h`. */
export function duration(ms: number): string {
  if (ms < 0.05) return '0 ms'
  if (ms < 10) return `${ms.toFixed(1)} ms`
  if (ms < 1000) return `${ms.toFixed(0)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  const minutes = Math.floor(ms / 60_000)
  const hours = Math.floor(minutes / 60)
  if (minutes < 60) return together(minutes, 'min', Math.floor((ms % 60_000) / 1000), 's')
  if (hours < 48) return together(hours, 'h', minutes % 60, 'min')
  return together(Math.floor(hours / 24), 'd', hours % 24, 'h')
}

function together(large: number, unit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallUnit}`
}

/** In steps of five seconds: an age that ticks would make a page restless. */
export function ago(ms: number): string {
  return ms < 5000 ? 'just now' : `${duration(Math.floor(ms / 5000) * 5000)} ago`
}

/** UTC, as everywhere on these pages: `19:03:10`, and the day where it is another one. */
export function clock(at: Date, now: Date = new Date()): Html {
  const iso = at.toISOString()
  const day = iso.slice(0, 10)
  const time = iso.slice(11, 19)
  const shown = day === now.toISOString().slice(0, 10) ? time : `${day} ${time}`
  return html`<time datetime="${iso}">${shown}</time>`
}

/** A word and a shape, so that nobody depends on the colour. */
export function verdictMark(verdict: Verdict): Html {
  const shape = {
    PASS: html`<circle cx="8" cy="8" r="7" /><path d="M4.5 8.2l2.5 2.5 4.5-5" />`,
    FAIL: html`<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" /><path d="M5 5l6 6M11 5l-6 6" />`,
    INCONCLUSIVE: html`<path d="M8 .8L15.2 8 8 15.2.8 8z" /><path
        d="M6 6.3c0-2.6 4-2.6 4 0 0 1.5-2 1.5-2 3.1M8 11.3v.2"
      />`,
  }[verdict]
  return html`<span class="verdict ${verdict.toLowerCase()}"
    ><svg viewBox="0 0 16 16" aria-hidden="true">${shape}</svg> ${verdict}</span
  >`
}

export function orderLink(orderId: string): Html {
  const shown = orderId.length > 60 ? `${orderId.slice(0, 57)}...` : orderId
  return html`<a class="order-id" href="/orders/${encodeURIComponent(orderId)}">${shown}</a>`
}

export function orderLinks(orderIds: readonly string[], shown = 5): Html {
  const more = orderIds.length - shown
  return html`<ul class="ids">
    ${orderIds.slice(0, shown).map((id) => html`<li>${orderLink(id)}</li>`)}
    ${more > 0 && html`<li>and ${more} more</li>`}
  </ul>`
}

export function whole(count: number): string {
  return count.toLocaleString('en').replaceAll(',', ' ')
}
