import type { Limits } from './limits.ts'
import { isSafe } from './route.ts'
import type { RouteClass } from './route.ts'
import { Slots } from './slots.ts'
import { UpstreamAgent } from './upstream-agent.ts'
import type { Upstream } from './upstream.ts'

/** One system behind a door, with the places and the connections that its requests share. */
export class Backend {
  /** `shop`, `crm`, `mes` or `intake`. */
  readonly name: string
  readonly upstream: Upstream
  readonly slots: Readonly<Record<RouteClass, Slots>>
  /** Never reuses a connection. */
  readonly freshAgent = new UpstreamAgent(false)
  readonly #reusing = new UpstreamAgent(true)

  constructor(name: string, upstream: Upstream, places: Limits['places']) {
    this.name = name
    this.upstream = upstream
    this.slots = {
      page: new Slots(places.page.limit, places.page.waiting),
      write: new Slots(places.write.limit, places.write.waiting),
      upload: new Slots(places.upload.limit, places.upload.waiting),
      stream: new Slots(places.stream.limit, places.stream.waiting),
    }
  }

  agentFor(method: string, routeClass: RouteClass): UpstreamAgent {
    return isSafe(method) && routeClass === 'page' ? this.#reusing : this.freshAgent
  }

  closeConnections(): void {
    this.#reusing.destroy()
    this.freshAgent.destroy()
  }
}
