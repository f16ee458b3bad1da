import type { ErrorRequestHandler } from 'express'

import { StranglerError } from '../contracts/errors.ts'
import type { ErrorCode } from '../contracts/errors.ts'
import { html } from '../runtime/html.ts'
import type { Log } from '../runtime/log.ts'
import { isConnectionError } from '../runtime/postgres.ts'
import { page } from './layout.ts'
import { personIfKnown } from './people.ts'
import { Refusal } from './refusal.ts'

const statuses: Partial<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  not_found: 404,
  refused: 409,
  epoch_conflict: 409,
}

/** Whatever a handler threw, as a page that says what to do next. What is of our inside goes into the log alone. */
export function errorPage(log: Log): ErrorRequestHandler {
  return (error: unknown, request, response, _next) => {
    const refusal = refusalOf(error)
    if (refusal.status >= 500)
      log.error(
        'request_failed',
        { method: request.method, path: request.path.slice(0, 200) },
        error,
      )
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    response.status(refusal.status)
    if (request.accepts(['html', 'text']) !== 'html') {
      response.type('text/plain').send(`${refusal.title}. ${refusal.says}\n`)
      return
    }
    const content = html`<h1>${refusal.title}</h1>
      <p class="lead">${refusal.says}</p>
      <p><a href="/">To the overview</a></p>`
    response.send(page({ title: refusal.title, content, person: personIfKnown(request) }))
  }
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (isConnectionError(error))
    return new Refusal(
      503,
      'The ledger does not answer',
      'This console reads everything from it, and knows nobody without it. Orders go on; what is in force stays. ' +
        'Look at its PostgreSQL server and at LEDGER_URL. On the command line "strangler rollback orders-direct" works without it.',
    )
  if (error instanceof StranglerError) {
    const status = statuses[error.code] ?? 503
    const says = `${sentence(error.detail)} Nothing was done but what the timeline says.`
    return new Refusal(
      status,
      sentence(error.message.split(' (')[0]!.replace(/^\w+: /, '')),
      status === 404 ? sentence(error.detail) : says,
    )
  }
  const told = reported(error)
  if (told.status === 413) return new Refusal(413, 'That is too much', 'A form has at most 16 kB.')
  if (told.status >= 400 && told.status < 500)
    return new Refusal(
      told.status,
      'This request can not be read',
      'Go back, reload the page and try again.',
    )
  if (told.code === '42501')
    return new Refusal(
      500,
      'The console may not do this',
      'Its login at the database lacks a right: see the log of the console.',
    )
  if (told.code === '57014')
    return new Refusal(
      503,
      'That took too long',
      'The ledger was asked for more than it answers in time. Ask for a smaller window, or again later.',
    )
  return new Refusal(
    500,
    'Something broke in the console',
    'Nothing was done but what the timeline says. The log of the console tells more.',
  )
}

function reported(error: unknown): { readonly status: number; readonly code: string } {
  if (!(error instanceof Error)) return { status: 500, code: '' }
  const status = 'status' in error && typeof error.status === 'number' ? error.status : 500
  return {
    status: error instanceof URIError ? 400 : status,
    code: 'code' in error ? String(error.code) : '',
  }
}

function sentence(text: string): string {
  const trimmed = text.trim()
  if (trimmed === '') return ''
  const first = `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}`
  return /[.!?]$/.test(first) ? first : `${first}.`
}
