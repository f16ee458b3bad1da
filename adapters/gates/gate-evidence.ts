import type { GateId, GateResult } from '../../flags/gates.ts'
import { readPhase } from '../../flags/phase-state.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Log } from '../../runtime/log.ts'
import { readPartnerBooks, readTwice } from '../partners/partner-books.ts'
import {
  areLegacyOnly,
  booksOf,
  judgeConservation,
  judgeDuplicates,
  ofOtherChannel,
  readConserved,
  readSamples,
} from './conservation.ts'
import { judgeDeadLetters, readDeadLetters } from './dead-letters.ts'
import type { GateSettings } from './gate-settings.ts'
import { gateSources } from './gate-sources.ts'
import type { GateUrls } from './gate-sources.ts'
import { getPage, oneConnection } from './get-page.ts'
import { judgeInDoubt, readDoubts } from './in-doubt.ts'
import { judgeLag, mesQueueWait, readWaits } from './lag.ts'
import { isBusyMachine, judgeOverhead, OverheadProbe } from './overhead.ts'
import { judgePages, readPages } from './pages.ts'
import { judgeParity, readParity } from './parity.ts'
import { judgeRunning, readMissing } from './running.ts'
import { inconclusive, seconds, unread } from './verdict.ts'

/** The gates that are judged from the three sides, the shadow, the doors and what runs. The others are of flags. */
export const evidenceGates = [
  'conservation',
  'duplicates',
  'parity',
  'in-doubt',
  'dead-letters',
  'pages',
  'overhead',
  'lag',
  'running',
] as const satisfies readonly GateId[]

type EvidenceGate = (typeof evidenceGates)[number]

export interface GateEvidence {
  /** Each of `evidenceGates` in that order, judged now. Never rejects: a source that does not answer is INCONCLUSIVE. */
  judge(phase: PhaseId): Promise<GateResult[]>
  close(): Promise<void>
}

/** Judges on evidence read now, every source at most once a judgement; several judgements may run at once. */
export function gateEvidence(urls: GateUrls, settings: GateSettings, log: Log): GateEvidence {
  const sources = gateSources(urls, settings.timeoutMs, log)
  const { ledger } = sources
  const { minimum } = settings
  const probe = new OverheadProbe(settings)
  const pages = remembered(settings.probeEveryMs, async () =>
    judgePages(await readPages(settings.doors, settings.timeoutMs), minimum),
  )
  const overhead = remembered(settings.probeEveryMs, async () =>
    judgeOverhead(await probe.measure(), isBusyMachine(), settings),
  )

  return {
    async judge(phase) {
      // Before the databases are asked: what they make busy would be in the measured times.
      const probed = {
        overhead: await judged('overhead', settings, overhead),
        pages: await judged('pages', settings, pages),
      }
      const share = once(() => readPhase(ledger, phase))
      const samples = once(async () => readSamples(ledger, phase, await share(), settings.windowMs))
      const conserved = once(() => readConserved(sources, settings, () => isDown(settings)))
      const ofPartners = once(() => readPartnerBooks(sources, settings))
      const bookkept = () => (phase === 'partner-intake' ? ofPartners() : conserved())
      const judges: Readonly<Record<EvidenceGate, () => Promise<GateResult>>> = {
        async conservation() {
          const books = await booksOf(ledger, phase, await bookkept())
          return judgeConservation(books, await samples(), minimum)
        },
        async duplicates() {
          const { accepted, differences } = await bookkept()
          const twice = phase === 'partner-intake' ? await readTwice(sources, settings) : []
          const found = [...differences.filter(({ kind }) => kind === 'duplicate'), ...twice]
          const elsewhere = await ofOtherChannel(ledger, phase, found)
          const duplicates = found.filter(({ orderId }) => !elsewhere.has(orderId))
          const ids = duplicates.map(({ orderId }) => orderId)
          const legacyOnly = await areLegacyOnly(ledger, phase, ids)
          return judgeDuplicates({ accepted, duplicates, legacyOnly }, await samples(), minimum)
        },
        async parity() {
          const { share: inForce } = await share()
          const evidence = await readParity(ledger, phase, inForce, settings.windowMs)
          return judgeParity(phase, evidence, minimum)
        },
        'in-doubt': async () => judgeInDoubt(await readDoubts(ledger), settings.watermarkMs),
        'dead-letters': async () => judgeDeadLetters(await readDeadLetters(ledger)),
        pages: () => Promise.resolve(probed.pages),
        overhead: () => Promise.resolve(probed.overhead),
        async lag() {
          const waits = await readWaits(sources, phase, settings.lagMs)
          if (phase !== 'orders-direct') return judgeLag(waits)
          return judgeLag([...waits, mesQueueWait(await conserved(), settings.lagMs)])
        },
        running: async () => judgeRunning(await readMissing(sources, phase)),
      }
      return Promise.all(evidenceGates.map((gate) => judged(gate, settings, judges[gate])))
    },
    async close() {
      probe.close()
      await sources.close()
    },
  }
}

/** What throws, or takes too long, is a source that does not answer. */
async function judged(
  gate: EvidenceGate,
  { timeoutMs }: GateSettings,
  judge: () => Promise<GateResult>,
): Promise<GateResult> {
  const about = { gate, needed: 'a value', source: 'the sources of this gate' } as const
  const atMostMs = 4 * timeoutMs
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<GateResult>((resolve) => {
    timer = setTimeout(() => {
      const says = `its sources have not answered within ${seconds(atMostMs)}`
      resolve(inconclusive(about, 'nothing', says, 'look at "strangler doctor"'))
    }, atMostMs)
  })
  try {
    return await Promise.race([judge(), late])
  } catch (error) {
    return unread(about, error)
  } finally {
    clearTimeout(timer)
  }
}

/** Several gates rest on one read; the first that asks does it. */
function once<Value>(read: () => Promise<Value>): () => Promise<Value> {
  let reading: Promise<Value> | undefined
  return () => (reading ??= read())
}

/** A PASS stands for a while: the legacy's pages are not to be asked for every two seconds. */
function remembered(forMs: number, judge: () => Promise<GateResult>): () => Promise<GateResult> {
  let last: { readonly result: GateResult; readonly at: number } | undefined
  return async () => {
    const now = performance.now()
    if (last !== undefined && last.result.verdict === 'PASS' && now - last.at < forMs) {
      const ago = seconds(now - last.at)
      return { ...last.result, says: `${last.result.says} (looked at ${ago} ago)` }
    }
    const result = await judge()
    last = { result, at: performance.now() }
    return result
  }
}

/** An answer of any kind shows that the process is there. Without its URL that can't be asked. */
async function isDown({ mesUpstream, timeoutMs }: GateSettings): Promise<boolean> {
  if (mesUpstream === undefined) return false
  const agent = oneConnection()
  try {
    await getPage(agent, {
      origin: mesUpstream,
      path: '/',
      host: new URL(mesUpstream).host,
      timeoutMs,
    })
    return false
  } catch {
    return true
  } finally {
    agent.destroy()
  }
}
