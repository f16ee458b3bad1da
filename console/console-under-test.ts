import { createServer } from 'node:http'

import { queueBoards } from '../delivery/queue-boards.ts'
import type { QueueBoards } from '../delivery/queue-boards.ts'
import { httpListener } from '../runtime/http-listener.ts'
import { inOrder } from '../runtime/lifecycle.ts'
import { createLog } from '../runtime/log.ts'
import type { EstateDatabases } from '../test/estate-databases.ts'
import { consoleApplication } from './application.ts'
import { liveFeed } from './live-feed.ts'
import type { HeaderLogin } from './people.ts'
import { phaseActs } from './phase-acts.ts'
import type { ConsoleDatabases } from './phase-view.ts'
import { trustedPeers } from './trusted-peers.ts'
import { addUser } from './users.ts'
import type { Role } from './users.ts'

export const rightPassword = 'correct horse battery'

export interface ConsoleUnderTest {
  readonly url: string
  readonly application: ReturnType<typeof consoleApplication>
  readonly boards: QueueBoards
  stop(): Promise<void>
}

/** The console with a real server and real databases; its doorbell is BullMQ on the broker's database. */
export async function startConsole(
  databases: ConsoleDatabases & Pick<EstateDatabases, 'urls'>,
  options: {
    readonly headerLogin?: HeaderLogin
    readonly secure?: boolean
    readonly proxies?: string
  } = {},
): Promise<ConsoleUnderTest> {
  const log = createLog('console-under-test')
  const boards = queueBoards({
    url: databases.urls.broker,
    prefix: undefined,
    path: '/queues',
    log,
  })
  const feed = liveFeed({ log, everyMs: 50 })
  const application = consoleApplication({
    databases,
    acts: phaseActs(databases, undefined, log),
    feed,
    boards,
    headerLogin: options.headerLogin,
    proxies: trustedPeers(options.proxies),
    secure: options.secure === true,
    log,
  })
  const listener = httpListener(createServer(application), { host: '127.0.0.1', port: 0 })
  const life = inOrder([listener, feed])
  await life.start()
  return {
    url: `http://127.0.0.1:${listener.port()}`,
    application,
    boards,
    async stop() {
      await life.stop()
      await boards.close()
    },
  }
}

interface Sent {
  readonly method?: string
  readonly form?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
}

/** Of a page, without its tags. */
export function wordsOf(page: string): string {
  return page
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

/** A browser as far as cookies go; redirects are not followed. */
export class Browser {
  readonly cookies = new Map<string, string>()
  /** Of the last answer, as they came. */
  setCookies: string[] = []
  readonly #base: string

  constructor(base: string) {
    this.#base = base
  }

  async ask(path: string, { method = 'GET', form, headers = {} }: Sent = {}): Promise<Response> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const response = await fetch(`${this.#base}${path}`, {
      method,
      redirect: 'manual',
      headers: { accept: 'text/html', ...(cookie === '' ? {} : { cookie }), ...headers },
      ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
    })
    this.setCookies = response.headers.getSetCookie()
    for (const line of this.setCookies) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (value === '') this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return response
  }

  async text(path: string): Promise<string> {
    return (await this.ask(path)).text()
  }

  /** What a person reads on a page. */
  async words(path: string): Promise<string> {
    return wordsOf(await this.text(path))
  }

  /** The token of the forms of a page. */
  async csrf(path = '/'): Promise<string> {
    return /name="csrf" value="([^"]+)"/.exec(await this.text(path))?.[1] ?? ''
  }

  async logIn(name: string, password = rightPassword, next = '/'): Promise<Response> {
    const csrf = await this.csrf('/login')
    return this.ask('/login', { method: 'POST', form: { name, password, csrf, next } })
  }

  async post(
    path: string,
    form: Readonly<Record<string, string>>,
    csrf?: string,
  ): Promise<Response> {
    return this.ask(path, { method: 'POST', form: { csrf: csrf ?? (await this.csrf()), ...form } })
  }
}

export async function makePerson(
  databases: EstateDatabases,
  name: string,
  role: Role,
): Promise<void> {
  await addUser(databases.ledger, { name, role, password: rightPassword, who: 'test' })
}

/** Somebody who is logged in. */
export async function person(console: ConsoleUnderTest, name: string): Promise<Browser> {
  const browser = new Browser(console.url)
  const { status } = await browser.logIn(name)
  if (status !== 303) throw new Error(`${name} could not log in: ${status}`)
  return browser
}
