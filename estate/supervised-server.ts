import { freezeTree, thawTree } from './process-tree.ts'
import type { ServerProcess } from './server-process.ts'

/**
 * A server that can be ended and started again on the same port and data. Restarts and the stop run
 * one after the other, however many callers there are; the stop is the last.
 */
export class SupervisedServer {
  #server: ServerProcess
  readonly #start: () => Promise<ServerProcess>
  #last: Promise<void> = Promise.resolve()
  #stopped: Promise<void> | undefined

  static async start(start: () => Promise<ServerProcess>): Promise<SupervisedServer> {
    return new SupervisedServer(start, await start())
  }

  private constructor(start: () => Promise<ServerProcess>, server: ServerProcess) {
    this.#start = start
    this.#server = server
  }

  get pid(): number {
    return this.#server.pid
  }

  lastLines(count?: number): string[] {
    return this.#server.output.last(count)
  }

  restart(end: (server: ServerProcess) => Promise<void>): Promise<void> {
    if (this.#stopped !== undefined) return Promise.reject(new Error('restart after stop'))
    return this.#afterTheLast(async () => {
      await end(this.#server)
      this.#server = await this.#start()
    })
  }

  /** SIGSTOP of the server and its children: connections hang, none is refused. */
  pause(): void {
    if (!this.#server.hasExited) freezeTree(this.#server.pid)
  }

  resume(): void {
    if (!this.#server.hasExited) thawTree(this.#server.pid)
  }

  stop(end: (server: ServerProcess) => Promise<void>): Promise<void> {
    this.#stopped ??= this.#afterTheLast(() => end(this.#server))
    return this.#stopped
  }

  #afterTheLast(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work)
    // A failed restart is its caller's to hear; the stop after it must still run.
    this.#last = done.catch(() => {})
    return done
  }
}
