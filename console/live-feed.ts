import type { Response } from 'express'

import { service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { isConnectionError } from '../runtime/postgres.ts'
import type { LivePage } from './live-page.ts'
import type { Person } from './people.ts'

/** Somebody who looks at a page. */
interface Viewer {
  readonly response: Response
  /** Who it is by now; undefined: logged out, or not allowed any more. */
  readonly person: () => Promise<Person | undefined>
  /** What was sent last, by part. */
  readonly sent: Map<string, string>
}

interface Topic {
  readonly page: LivePage<unknown>
  readonly viewers: Set<Viewer>
}

export interface LiveFeed extends Service {
  /** Streams the parts of a page that change, until the viewer goes. False: there are too many already. */
  join<Model>(
    key: string,
    page: LivePage<Model>,
    response: Response,
    person: Viewer['person'],
  ): boolean
}

const mostViewers = 200

/**
 * One reader for each page that somebody looks at, however many do. A page that is slow to read is read less often: no more than a
 * tenth of the time goes into it.
 */
export function liveFeed(options: { readonly log: Log; readonly everyMs?: number }): LiveFeed {
  const { log, everyMs = 1000 } = options
  const topics = new Map<string, Topic>()
  const timers = new Set<NodeJS.Timeout>()
  let stopped = true
  const rounds = new Set<Promise<void>>()

  const round = async (key: string, topic: Topic): Promise<void> => {
    const began = performance.now()
    try {
      const model = await topic.page.read()
      await Promise.all([...topic.viewers].map((viewer) => show(topic, viewer, model)))
    } catch (error) {
      const away = isConnectionError(error)
      if (!away) log.warn('live_page_failed', { page: key, reason: String(error) })
      const says = away ? 'The ledger does not answer' : 'This page could not be read'
      for (const { response } of topic.viewers) send(response, 'trouble', { says })
    }
    if (stopped || topic.viewers.size === 0) topics.delete(key)
    else schedule(key, topic, Math.max(everyMs, (performance.now() - began) * 9))
  }
  const schedule = (key: string, topic: Topic, ms: number): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      const running = round(key, topic).finally(() => rounds.delete(running))
      rounds.add(running)
    }, ms)
    timers.add(timer)
  }
  return {
    ...service({
      start() {
        stopped = false
        return Promise.resolve()
      },
      async stop() {
        stopped = true
        for (const timer of timers) clearTimeout(timer)
        timers.clear()
        for (const { viewers } of topics.values())
          for (const { response } of viewers) response.end()
        topics.clear()
        await Promise.all(rounds)
      },
    }),
    join(key, page, response, person) {
      const all = [...topics.values()].reduce((sum, { viewers }) => sum + viewers.size, 0)
      if (stopped || all >= mostViewers) return false
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' })
      response.write('retry: 2000\n\n')
      const viewer: Viewer = { response, person, sent: new Map() }
      let topic = topics.get(key)
      if (topic === undefined) {
        topic = { page, viewers: new Set() }
        topics.set(key, topic)
        schedule(key, topic, 0)
      }
      topic.viewers.add(viewer)
      const { viewers } = topic
      response.on('close', () => viewers.delete(viewer))
      return true
    },
  }
}

async function show(topic: Topic, viewer: Viewer, model: unknown): Promise<void> {
  const { response, sent } = viewer
  // A ledger that went away in between says nothing about who this is.
  const person = await viewer.person()
  if (person === undefined) {
    send(response, 'ended', {})
    response.end()
    return
  }
  const changed: Record<string, string> = {}
  for (const [id, { text }] of Object.entries(topic.page.fragments(model, person))) {
    if (sent.get(id) === text) continue
    sent.set(id, text)
    changed[id] = text
  }
  send(response, 'parts', { at: new Date().toISOString(), parts: changed })
}

function send(response: Response, event: string, data: unknown): void {
  // Whoever does not read gets no more: what it will ask for after a reconnection is whole.
  if (response.writableLength > 1_000_000) response.destroy()
  else if (!response.writableEnded)
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
}
