import { hopByHopNames } from './hop-by-hop.ts'

interface AnswerHead {
  /** Name, value, name, value: the upstream's order, case and repetitions. */
  readonly headers: string[]
  readonly isEventStream: boolean
}

/**
 * The head that is relayed; undefined when the answer can't be framed: a transfer coding other than plain `chunked` leaves the
 * upstream's framing inside the body.
 */
export function answerPrelude(rawHeaders: readonly string[]): AnswerHead | undefined {
  const droppedHere = hopByHopNames(rawHeaders)
  const headers: string[] = []
  let lengthAt: number | undefined
  let isEventStream = false
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase()
    const value = rawHeaders[at + 1]!
    if (name === 'transfer-encoding' && value.trim().toLowerCase() !== 'chunked') return undefined
    // Among them `Trailer`: with a Content-Length beside it Node throws where nobody can catch, and the process ends.
    if (droppedHere.has(name)) continue
    if (name === 'content-type') isEventStream = /^\s*text\/event-stream\b/i.test(value)
    if (name === 'content-disposition' && lengthAt !== undefined) {
      // Behind Content-Length Node re-encodes the value: see the request's side.
      headers.splice(lengthAt, 0, rawHeaders[at]!, value)
      lengthAt += 2
      continue
    }
    if (name === 'content-length') lengthAt = headers.length
    headers.push(rawHeaders[at]!, value)
  }
  return { headers, isEventStream }
}
