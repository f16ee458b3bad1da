import type { Agent } from 'node:http'

import type { GateResult } from '../../flags/gates.ts'
import { comparePages } from './compare-pages.ts'
import type { Compared } from './compare-pages.ts'
import type { Door } from './gate-settings.ts'
import { getPage, oneConnection, reasonOf } from './get-page.ts'
import { fail, inconclusive, noPage, notSound, pass, some, unsound } from './verdict.ts'

export interface LookedAtPage {
  readonly door: Door['name']
  readonly path: string
  /** Of the legacy process itself. */
  readonly status: number
  readonly compared: Compared | undefined
  /** A URL that did not answer; then nothing was compared. */
  readonly silent: string | undefined
}

/** A page may change between two requests, such as a list of orders: it is asked for again before anything is said of it. */
const attempts = 3

export async function readPages(
  doors: readonly Door[],
  timeoutMs: number,
): Promise<LookedAtPage[]> {
  const looked: LookedAtPage[] = []
  for (const door of doors) {
    const agents = { direct: oneConnection(), proxied: oneConnection() }
    try {
      for (const path of door.pages) looked.push(await lookAt(door, path, timeoutMs, agents))
    } finally {
      agents.direct.destroy()
      agents.proxied.destroy()
    }
  }
  return looked
}

async function lookAt(
  { name, door, upstream }: Door,
  path: string,
  timeoutMs: number,
  agents: { readonly direct: Agent; readonly proxied: Agent },
): Promise<LookedAtPage> {
  const ask = async (agent: Agent, origin: string) => {
    try {
      return await getPage(agent, { origin, path, host: new URL(door).host, timeoutMs })
    } catch (error) {
      return `${origin}${path}: ${reasonOf(error)}`
    }
  }
  const base = { door: name, path }
  let last: LookedAtPage = { ...base, status: 0, compared: undefined, silent: undefined }
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const direct = await ask(agents.direct, upstream)
    const proxied = await ask(agents.proxied, door)
    const again = await ask(agents.direct, upstream)
    for (const answer of [direct, proxied, again])
      if (typeof answer === 'string')
        return { ...base, status: 0, compared: undefined, silent: answer }
    if (typeof direct === 'string' || typeof proxied === 'string' || typeof again === 'string')
      break
    const compared = comparePages(direct, again, proxied)
    last = { ...base, status: direct.status, compared, silent: undefined }
    if (compared.differences.length === 0 && !compared.unsteady.includes('the body')) return last
  }
  return last
}

export function judgePages(pages: readonly LookedAtPage[], minimum: number): GateResult {
  const gate = {
    gate: 'pages',
    needed: 'every page the same through the proxy',
    source:
      pages.map(({ door, path }) => `${door} ${path}`).join(', ') ||
      'SHOP_DOOR, CRM_DOOR, MES_DOOR',
  } as const
  if (pages.length === 0) return noPage(gate, minimum)
  const changed = pages.filter(({ compared }) => (compared?.differences.length ?? 0) > 0)
  const measured = `${changed.length} of ${pages.length} pages differ`
  if (changed.length > 0) {
    return fail(
      gate,
      measured,
      changed
        .map(({ door, path, compared }) => `${door} ${path}: ${some(compared!.differences, 5)}`)
        .join('; '),
      { unblock: 'ask both URLs with "curl -si" and compare; then look at the proxy' },
    )
  }
  const silent = pages.flatMap((page) => page.silent ?? [])
  if (silent.length > 0)
    return inconclusive(gate, measured, `no answer from ${silent.join('; ')}`, 'is it up?')
  const wrong = pages.flatMap(({ door, path, status }) => unsound({ [`${door} ${path}`]: status }))
  if (wrong.length > 0) return notSound(gate, wrong)
  const failing = pages.filter(({ status }) => status < 200 || status >= 500)
  if (failing.length > 0) {
    return inconclusive(
      gate,
      measured,
      `the legacy itself answers ${failing.map(({ door, path, status }) => `${status} to ${door} ${path}`).join(', ')}`,
      'mend it, or name other pages in SHOP_PAGES, CRM_PAGES, MES_PAGES',
    )
  }
  const unsteady = pages.filter(
    ({ compared }) => compared === undefined || compared.unsteady.length > 0,
  )
  const bodyless = new Set(pages.map(({ door }) => door))
  for (const { door, compared } of pages)
    if (compared !== undefined && !compared.unsteady.includes('the body')) bodyless.delete(door)
  const except =
    unsteady.length === 0
      ? ''
      : `; differs without the proxy too, and is not compared: ${unsteady
          .map(({ door, path, compared }) => `${door} ${path} ${some(compared?.unsteady ?? [], 3)}`)
          .join(', ')}`
  if (bodyless.size > 0 && minimum > 0) {
    return inconclusive(
      gate,
      measured,
      `no page of ${[...bodyless].join(', ')} could be compared whole${except}`,
      'name a page that is the same for every request in SHOP_PAGES, CRM_PAGES, MES_PAGES',
    )
  }
  return pass(gate, measured, `the pages are the same through the proxy${except}`)
}
