import type { LogFields } from '../runtime/log.ts'
import { Backend } from './backend.ts'
import { httpProxyMiddlewareUpstream } from './http-proxy-middleware-upstream.ts'
import { defaultLimits } from './limits.ts'
import type { Limits } from './limits.ts'
import type { PartnerSeam } from './partner-seam.ts'
import { ProxyListener } from './proxy-listener.ts'
import type { PassedRequest } from './proxy-listener.ts'
import type { Teardown } from './stub-upstream.ts'

export interface DoorUnderTest {
  readonly port: number
  readonly listener: ProxyListener
  readonly passed: PassedRequest[]
  readonly logged: LogFields[]
  /** Resolves once `count` requests are over. */
  over(count: number): Promise<PassedRequest[]>
  stop(): Promise<void>
}

/** The real listener in front of a stub, in this process, until the end of the test. */
export async function doorTo(
  t: Teardown,
  origin: string,
  limits: Partial<Limits> = {},
  trusted: string[] = [],
  partners?: PartnerSeam,
): Promise<DoorUnderTest> {
  const passed: PassedRequest[] = []
  const logged: LogFields[] = []
  let waiting: (() => void)[] = []
  const keep = (_event: string, fields: LogFields = {}): void => void logged.push(fields)
  const allLimits = { ...defaultLimits, drainMs: 1000, drainStreamsMs: 100, ...limits }
  const listener = new ProxyListener({
    name: 'shop',
    partners,
    host: '127.0.0.1',
    port: 0,
    backend: new Backend('shop', httpProxyMiddlewareUpstream(origin), allLimits.places),
    limits: allLimits,
    trustedProxies: new Set(trusted),
    log: { info: keep, warn: keep, error: keep },
    onPassed: (each) => {
      passed.push(each)
      const woken = waiting
      waiting = []
      for (const wake of woken) wake()
    },
  })
  await listener.start()
  t.teardown(() => listener.stop())
  return {
    port: listener.port(),
    listener,
    passed,
    logged,
    over: async (count) => {
      while (passed.length < count) {
        await new Promise<void>((resolve) => {
          waiting.push(resolve)
        })
      }
      return passed
    },
    stop: () => listener.stop(),
  }
}
