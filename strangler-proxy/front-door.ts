import type { HttpListener } from '../runtime/http-listener.ts'
import { inOrder, service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { ProxyListener } from './proxy-listener.ts'

interface FrontDoorParts {
  readonly shop: ProxyListener
  readonly crm: ProxyListener
  readonly mes: ProxyListener
  readonly recorder: Service
  admin(isReady: () => boolean): HttpListener
}

export interface Ports {
  readonly shop: number
  readonly crm: number
  readonly mes: number
  readonly admin: number
}

export interface FrontDoor extends Service {
  ports(): Ports
}

/** The three listeners as one: ready together, drained together, the recorder after the last request. */
export function frontDoor(parts: FrontDoorParts): FrontDoor {
  const listeners = [parts.shop, parts.crm, parts.mes]
  let ready = false
  const admin = parts.admin(() => ready)
  const doors = service({
    async start() {
      await Promise.all(listeners.map((each) => each.start()))
      ready = true
    },
    async stop() {
      ready = false
      await Promise.all(listeners.map((each) => each.stop()))
    },
  })
  return {
    ...inOrder([parts.recorder, admin, doors]),
    ports: () => ({
      shop: parts.shop.port(),
      crm: parts.crm.port(),
      mes: parts.mes.port(),
      admin: admin.port(),
    }),
  }
}
