import type { Agent } from 'node:http'
import { availableParallelism, loadavg } from 'node:os'

import type { GateResult } from '../../flags/gates.ts'
import type { Door, GateSettings } from './gate-settings.ts'
import { getPage, oneConnection, reasonOf } from './get-page.ts'
import { fail, inconclusive, noPage, notSound, pass, unsound } from './verdict.ts'

export interface AddedTimes {
  readonly door: Door['name']
  /** Of each pair of requests what the one through the proxy took longer, in milliseconds; the latest last. */
  readonly added: readonly number[]
  /** A URL that did not answer. */
  readonly silent: string | undefined
}

const pairsAtOnce = 20
const kept = 1000
const keptMs = 600_000
const patienceMs = 3000
/** More pairs than that say nothing new of a median. */
const enough = 200

interface Probed {
  readonly door: Door
  readonly direct: Agent
  readonly proxied: Agent
  pairs: { readonly at: number; readonly addedMs: number }[]
}

/**
 * Measures what the proxy adds: each page is asked for through it and without it, one right after the other on kept connections,
 * and in turn first, so that whatever slows the machine slows both. The last pairs are kept over judgements.
 */
export class OverheadProbe {
  readonly #settings: Pick<GateSettings, 'minimum' | 'timeoutMs'>
  readonly #probed: readonly Probed[]

  constructor(settings: Pick<GateSettings, 'doors' | 'minimum' | 'timeoutMs'>) {
    this.#settings = settings
    this.#probed = settings.doors.map((door) => ({
      door,
      direct: oneConnection(),
      proxied: oneConnection(),
      pairs: [],
    }))
  }

  async measure(): Promise<AddedTimes[]> {
    const times: AddedTimes[] = []
    for (const probed of this.#probed) {
      let silent: string | undefined
      try {
        await this.#pairs(probed)
      } catch (error) {
        silent = reasonOf(error)
      }
      times.push({
        door: probed.door.name,
        added: probed.pairs.map(({ addedMs }) => addedMs),
        silent,
      })
    }
    return times
  }

  close(): void {
    for (const { direct, proxied } of this.#probed) {
      direct.destroy()
      proxied.destroy()
    }
  }

  async #pairs(probed: Probed): Promise<void> {
    const { door, upstream, pages } = probed.door
    const { minimum, timeoutMs } = this.#settings
    const ask = async (agent: Agent, origin: string): Promise<number> => {
      try {
        const asked = { origin, path: pages[0]!, host: new URL(door).host, timeoutMs }
        return (await getPage(agent, asked)).ms
      } catch (error) {
        throw new Error(`${origin}${pages[0]!}: ${reasonOf(error)}`, { cause: error })
      }
    }
    const pair = async (proxyFirst: boolean): Promise<number> => {
      const first = proxyFirst ? await ask(probed.proxied, door) : undefined
      const direct = await ask(probed.direct, upstream)
      return (first ?? (await ask(probed.proxied, door))) - direct
    }
    const began = performance.now()
    probed.pairs = probed.pairs.filter(({ at }) => began - at < keptMs)
    const wanted = Math.max(pairsAtOnce, Math.min(minimum, enough) - probed.pairs.length)
    // Opens both connections.
    await pair(false)
    for (let taken = 0; taken < wanted; taken += 1) {
      const now = performance.now()
      if (taken >= pairsAtOnce && now - began > patienceMs) break
      probed.pairs.push({ at: now, addedMs: await pair(taken % 2 === 1) })
    }
    probed.pairs = probed.pairs.slice(-kept)
  }
}

/** The value below which the part `at` of the values lies; NaN of nothing. */
export function quantile(values: readonly number[], at: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] ?? Number.NaN
}

/**
 * True when more than one pair in a hundred is over the budget for the proxy's sake. A busy machine makes either request of a
 * pair late: pairs in which the direct one was late by as much tell how often that happens, and the excess over them must be
 * more than chance, two standard deviations of the difference of two counts.
 */
export function tailIsOver(added: readonly number[], budgetMs: number): boolean {
  const over = added.filter((ms) => ms > budgetMs).length
  const under = added.filter((ms) => -ms > budgetMs).length
  return over - under > added.length / 100 + 2 * Math.sqrt(over + under)
}

/** True when more wants to run here than there are cores: then times say less of the proxy. */
export function isBusyMachine(): boolean {
  return loadavg()[0]! > availableParallelism()
}

export function judgeOverhead(
  times: readonly AddedTimes[],
  isBusy: boolean,
  { minimum, addedP50Ms, addedP99Ms }: Pick<GateSettings, 'minimum' | 'addedP50Ms' | 'addedP99Ms'>,
): GateResult {
  const pairs = Math.min(minimum, enough)
  const gate = {
    gate: 'overhead',
    needed: `p50 <= ${addedP50Ms} ms, p99 <= ${addedP99Ms} ms of >= ${pairs} pairs`,
    source: 'pairs of requests, through the proxy and without it',
  } as const
  if (times.length === 0) return noPage(gate, minimum)
  const judged = times.map(({ door, added, silent }) => {
    const latest = added.slice(-Math.max(pairs, pairsAtOnce))
    const p50 = quantile(latest, 0.5)
    const p99 = quantile(added, 0.99)
    return {
      door,
      silent,
      pairs: added.length,
      p50,
      p99,
      // A busy machine makes half of the requests wait, and some it lets through; what the proxy adds, it adds to all.
      slow: (isBusy ? quantile(latest, 0.1) : p50) > addedP50Ms,
      unsure: p50 > addedP50Ms,
      tail: added.length >= pairs && tailIsOver(added, addedP99Ms),
      words: `${door} p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms of ${added.length}`,
      wrong: added.some((ms) => !Number.isFinite(ms)) ? [`a time of ${door} is no time`] : [],
    }
  })
  const measured = judged.map(({ words }) => words).join('; ')
  const wrong = [
    ...judged.flatMap((each) => each.wrong),
    ...unsound({ 'the budget of p50': addedP50Ms, 'the budget of p99': addedP99Ms }),
  ]
  if (wrong.length > 0) return notSound(gate, wrong)
  const over = judged.filter((each) => each.pairs >= Math.max(1, pairs) && (each.slow || each.tail))
  if (over.length > 0) {
    return fail(
      gate,
      measured,
      over
        .map(({ door, p50, p99, slow }) =>
          slow
            ? `the proxy adds ${p50.toFixed(1)} ms at p50 to ${door}, ${addedP50Ms} ms are allowed`
            : `the proxy adds ${p99.toFixed(1)} ms at p99 to ${door}, ${addedP99Ms} ms are allowed`,
        )
        .join('; '),
      { unblock: 'look at /metrics of the proxy, and at what stands before it' },
    )
  }
  const silent = judged.flatMap((each) => each.silent ?? [])
  if (silent.length > 0)
    return inconclusive(gate, measured, `no answer from ${silent.join('; ')}`, 'is it up?')
  const few = judged.filter((each) => each.pairs < Math.max(1, pairs))
  if (few.length > 0) {
    return inconclusive(
      gate,
      measured,
      `${few.map((each) => `${each.pairs} pairs of ${each.door}`).join(', ')} are too few to say it of`,
    )
  }
  const unsure = judged.filter((each) => each.unsure)
  if (unsure.length > 0) {
    return inconclusive(
      gate,
      measured,
      `more runs on this machine than it has cores for, so that it can not be told from the proxy: ${unsure.map(({ words }) => words).join(', ')}`,
      'wait, or measure from a machine that is less busy',
    )
  }
  const noisy = judged.filter((each) => each.p99 > addedP99Ms)
  return pass(
    gate,
    measured,
    noisy.length === 0
      ? 'what the proxy adds is within its budget'
      : `what the proxy adds is within its budget: at p99 of ${noisy.map(({ door }) => door).join(', ')} requests without the proxy are as late as often`,
  )
}
