import { join } from 'node:path'

import express from 'express'
import type { Express, Request, RequestHandler } from 'express'

import { isOrderId, maximumOrderIdLength } from '../contracts/order.ts'
import type { QueueBoards } from '../delivery/queue-boards.ts'
import { findPhase } from '../flags/phases.ts'
import { noteEvent } from '../flags/timeline.ts'
import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { Log } from '../runtime/log.ts'
import { acceptParity, actOnPhase } from './act-on-phase.ts'
import { setBoardCookie } from './cookies.ts'
import { errorPage } from './error-page.ts'
import { requirePerson, requireRightToAct, securityHeaders } from './guard.ts'
import { hopsPage, isWindow } from './hops-page.ts'
import { page } from './layout.ts'
import type { LiveFeed } from './live-feed.ts'
import { contentOf } from './live-page.ts'
import type { LivePage } from './live-page.ts'
import { logIn, logOut, showLogin } from './login-page.ts'
import type { ActName } from './offered-acts.ts'
import { isKnownOrder, isOrderFilter } from './order-list.ts'
import { orderPage } from './order-page.ts'
import { ordersPage } from './orders-page.ts'
import { overviewPage } from './overview-page.ts'
import { parityPage } from './parity-page.ts'
import { partnersPage } from './partners-page.ts'
import { identify, personOf } from './people.ts'
import type { HeaderLogin, Identification } from './people.ts'
import type { PhaseActs } from './phase-acts.ts'
import { phasePage } from './phase-page.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { Refusal } from './refusal.ts'
import { auditPage, timelinePage } from './timeline-page.ts'
import type { TrustedPeers } from './trusted-peers.ts'

export interface ConsoleParts {
  readonly databases: ConsoleDatabases
  readonly acts: PhaseActs
  readonly feed: LiveFeed
  /** Undefined: no doorbell is configured. */
  readonly boards: QueueBoards | undefined
  readonly headerLogin: HeaderLogin | undefined
  /** Whose X-Forwarded-For says where a login came from. */
  readonly proxies: TrustedPeers
  /** Reached by https only. */
  readonly secure: boolean
  readonly log: Log
}

type Section = Parameters<typeof page>[0]['section']

/**
 * In this order: what is for everybody (health, assets, login), then the guards, then everything else. Whatever stands behind the
 * guards needs a person, and to do more than look also the token and the role, so a new route can't forget them.
 */
export function consoleApplication(parts: ConsoleParts): Express {
  const { databases, headerLogin, secure, log } = parts
  const { ledger, intake } = databases
  const identification = { ledger, headerLogin, secure }
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', 'simple')
  app.set('trust proxy', parts.proxies.texts.length === 0 ? false : [...parts.proxies.texts])
  app.use(securityHeaders(secure))

  app.get('/health', async (_request, response) => {
    const answers = await ledger.query('SELECT').then(
      () => true,
      () => false,
    )
    response
      .status(answers ? 200 : 503)
      .json({ status: answers ? 'ok' : 'the ledger does not answer' })
  })
  app.use(
    '/assets',
    express.static(join(import.meta.dirname, 'assets'), {
      index: false,
      redirect: false,
      etag: true,
      setHeaders: (response) => response.setHeader('Cache-Control', 'no-cache'),
    }),
  )
  const form = express.urlencoded({ extended: false, limit: '16kb' })
  if (headerLogin === undefined) {
    app.get('/login', showLogin({ ledger, secure }))
    app.post('/login', form, logIn({ ledger, secure }))
  }

  app.use(requirePerson(identification))
  app.use(form)
  app.use(requireRightToAct(identification))

  app.post('/logout', logOut({ ledger, secure }))
  app.post('/phases/:phase/:act', actOnPhase(databases, parts.acts))
  app.post('/parity/:phase/accept', acceptParity(databases))

  /** A page, and under /events its live view. */
  const look = <Model>(
    path: string,
    section: Section,
    of: (request: Request) => LivePage<Model> | Promise<LivePage<Model>>,
  ): void => {
    app.get(path, async (request, response) => {
      const live = await of(request)
      const person = personOf(request)
      const content = html`${done(request)}${contentOf(live, await live.read(), person)}`
      const events = `/events${request.originalUrl === '/' ? '' : request.originalUrl}`
      response.send(page({ title: live.title, content, person, section, live: events }))
    })
    app.get(`/events${path === '/' ? '' : path}`, async (request, response) => {
      const joined = parts.feed.join(request.originalUrl, await of(request), response, () =>
        identify(request, undefined, identification, false),
      )
      if (!joined)
        throw new Refusal(503, 'Too many look already', 'This page is not live; reload it.')
    })
  }
  look('/', '/', () => overviewPage(databases))
  look('/phases/:phase', undefined, (request) => phasePage(databases, phaseOf(request)))
  look('/parity/:phase', undefined, (request) => parityPage(databases, phaseOf(request)))
  if (intake !== undefined) look('/partners', undefined, () => partnersPage(intake))
  look('/hops', '/hops', ({ query }) =>
    hopsPage(databases, isWindow(query['since']) ? query['since'] : '10m'),
  )
  look('/timeline', '/timeline', ({ query }) =>
    timelinePage(
      databases,
      typeof query['phase'] === 'string' ? findPhase(query['phase']).id : undefined,
    ),
  )
  look('/audit', '/audit', () => auditPage(databases))
  app.get('/orders', async (request, response, next) => {
    // Whoever types a whole id wants that order.
    const text = searched(request)
    if (isOrderId(text) && (await isKnownOrder(ledger, text)))
      response.redirect(303, `/orders/${encodeURIComponent(text)}`)
    else next()
  })
  look('/orders', '/orders', (request) => {
    const { state } = request.query
    return ordersPage(databases, searched(request), isOrderFilter(state) ? state : undefined)
  })
  look('/orders/:order', '/orders', ({ params }) => orderPage(databases, String(params['order'])))

  const { boards } = parts
  if (boards === undefined)
    app.get('/queues', () => {
      throw new Refusal(
        404,
        'No doorbell here',
        'QUEUE_URL is not set: the couriers poll the ledger.',
      )
    })
  else app.use('/queues', doorbellBoards(boards, identification))

  app.use(() => {
    throw new Refusal(
      404,
      'There is no such page',
      'Look at the address, or begin at the overview.',
    )
  })
  app.use(errorPage(log))
  return app
}

function doorbellBoards(boards: QueueBoards, { ledger, secure }: Identification): RequestHandler {
  return async (request, response, next) => {
    const { name, role, csrf } = personOf(request)
    if (role === 'reader') {
      boards.application('reader')(request, response, next)
      return
    }
    setBoardCookie(response, csrf, secure)
    if (request.method !== 'GET' && request.method !== 'HEAD')
      await noteEvent(ledger, {
        phase: null,
        kind: 'queue',
        who: name,
        says: `${request.method} ${request.path.slice(0, 200)} on the doorbells`,
      })
    boards.application('operator')(request, response, next)
  }
}

function phaseOf(request: Request): ReturnType<typeof findPhase> {
  return findPhase(String(request.params['phase']))
}

function searched({ query }: Request): string {
  const { q } = query
  return typeof q === 'string' ? q.trim().slice(0, maximumOrderIdLength).replaceAll('\0', '') : ''
}

const didWords = {
  advance: 'The wish is set. The reconciler moves the phase as far as the gates allow.',
  approve: 'Your approval is recorded.',
  hold: 'The phase is held.',
  resume: 'The phase follows the wish again.',
  rollback: 'The phase goes back. New orders take the old way.',
  kill: 'The phase is killed. New orders take the old way.',
  accept: 'The difference is accepted until that day.',
} as const satisfies Record<ActName | 'accept', string>

/** What was just done; of the address only the name of an act is looked at. */
function done({ query }: Request): Html {
  const found = Object.entries(didWords).find(([name]) => name === query['did'])
  return found === undefined ? html`` : html`<p class="done" role="status">${found[1]}</p>`
}
