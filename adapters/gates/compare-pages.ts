import type { Page } from './get-page.ts'

export interface Compared {
  /** What the proxy changes. */
  readonly differences: readonly string[]
  /** What differs from request to request without the proxy, and so can't be held against it. */
  readonly unsteady: readonly string[]
}

/** Of one connection, not of the page. The proxy adds no header of its own. */
const ofTheConnection = new Set([
  'date',
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'alt-svc',
  'http2-settings',
])

/**
 * A page through the proxy against the same page without it, asked twice: only what is equal in both can be compared. Names of
 * headers are case-folded, and the order of different headers is free (RFC 9110); that of repeated ones is not.
 */
export function comparePages(direct: Page, again: Page, proxied: Page): Compared {
  const differences: string[] = []
  const unsteady: string[] = []
  if (direct.status !== again.status) unsteady.push('the status')
  else if (direct.status !== proxied.status)
    differences.push(`status ${proxied.status} instead of ${direct.status}`)

  const [here, twice, there] = [direct, again, proxied].map(headersOf)
  for (const name of new Set([...here!.keys(), ...twice!.keys(), ...there!.keys()])) {
    const [a, b, c] = [here!.get(name) ?? [], twice!.get(name) ?? [], there!.get(name) ?? []]
    if (a.length !== b.length) unsteady.push(`header ${name}`)
    else if (a.length !== c.length)
      differences.push(`${c.length} ${name} headers instead of ${a.length}`)
    else if (name === 'set-cookie') compareCookies(a, b, c, { differences, unsteady })
    else if (a.join('\n') !== b.join('\n')) unsteady.push(`header ${name}`)
    else if (a.join('\n') !== c.join('\n'))
      differences.push(`header ${name} is ${shown(c)} instead of ${shown(a)}`)
  }

  if (!direct.body.equals(again.body)) unsteady.push('the body')
  else if (!direct.body.equals(proxied.body))
    differences.push(firstDifference(direct.body, proxied.body))
  return { differences, unsteady }
}

function headersOf({ headers }: Page): Map<string, string[]> {
  const found = new Map<string, string[]>()
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at]!.toLowerCase()
    if (ofTheConnection.has(name)) continue
    found.set(name, [...(found.get(name) ?? []), headers[at + 1]!])
  }
  return found
}

/** Of a session each request may get another; its name, attributes and place must be the same. */
function compareCookies(
  direct: readonly string[],
  again: readonly string[],
  proxied: readonly string[],
  { differences, unsteady }: { differences: string[]; unsteady: string[] },
): void {
  for (const [index, cookie] of direct.entries()) {
    const [a, b, c] = [cookie, again[index]!, proxied[index]!].map(partsOf)
    const name = a!.name
    if (name !== b!.name) unsteady.push(`cookie ${index + 1}`)
    else if (name !== c!.name) differences.push(`cookie ${c!.name} instead of ${name}`)
    else {
      if (a!.value === b!.value && a!.value !== c!.value)
        differences.push(`another value of cookie ${name}`)
      if (a!.attributes === b!.attributes && a!.attributes !== c!.attributes) {
        const theirs = c!.attributes || 'no attributes'
        differences.push(`cookie ${name} has ${theirs} instead of ${a!.attributes || 'none'}`)
      } else if (a!.keys === b!.keys && a!.keys !== c!.keys)
        differences.push(`cookie ${name} has ${c!.keys || 'no attributes'} instead of ${a!.keys}`)
    }
  }
}

function partsOf(cookie: string): {
  name: string
  value: string
  attributes: string
  keys: string
} {
  const [pair = '', ...attributes] = cookie.split(';').map((each) => each.trim())
  const equals = pair.indexOf('=')
  return {
    name: equals < 0 ? pair : pair.slice(0, equals),
    // The value may be a session: it is compared, and never shown.
    value: equals < 0 ? '' : pair.slice(equals + 1),
    attributes: attributes.join('; '),
    // An Expires that is counted from now differs from second to second.
    keys: attributes.map((each) => each.split('=', 1)[0]!).join('; '),
  }
}

function shown(values: readonly string[]): string {
  return JSON.stringify(values.join(', ').slice(0, 80))
}

function firstDifference(direct: Buffer, proxied: Buffer): string {
  let at = 0
  while (at < Math.min(direct.length, proxied.length) && direct[at] === proxied[at]) at += 1
  return `the body differs from byte ${at} on (${proxied.length} bytes instead of ${direct.length})`
}
