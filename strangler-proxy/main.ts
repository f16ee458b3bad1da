import { integer, port, readConfig, text, url, withDefault } from '../runtime/config.ts'
import { HopRecorder } from '../runtime/hop-recorder.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import { runProcess } from '../runtime/run-process.ts'
import { adminListener } from './admin-listener.ts'
import { frontDoor } from './front-door.ts'
import { hopOfPass } from './hop-of-pass.ts'
import { httpProxyMiddlewareUpstream } from './http-proxy-middleware-upstream.ts'
import { defaultLimits } from './limits.ts'
import { ProxyListener } from './proxy-listener.ts'
import { ipList, origin } from './proxy-settings.ts'

const log = createLog('strangler-proxy')
const milliseconds = integer({ min: 1, max: 3_600_000 })

await runProcess(log, () => {
  const config = readConfig({
    SHOP_UPSTREAM: origin,
    CRM_UPSTREAM: origin,
    MES_UPSTREAM: origin,
    LISTEN_HOST: withDefault(text(), '127.0.0.1'),
    SHOP_LISTEN_PORT: port,
    CRM_LISTEN_PORT: port,
    MES_LISTEN_PORT: port,
    ADMIN_PORT: port,
    LEDGER_URL: url('postgres', 'postgresql'),
    TRUSTED_PROXIES: ipList,
    CONNECT_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.connectMs),
    HEAD_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.headMs),
    IDLE_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.idleMs),
    DRAIN_NOTICE_MS: withDefault(integer({ min: 0, max: 5000 }), defaultLimits.drainNoticeMs),
  })
  const pool = createPool(config.LEDGER_URL, { name: 'strangler-proxy', max: 2, log })
  const recorder = new HopRecorder(pool, log)
  const limits = {
    ...defaultLimits,
    connectMs: config.CONNECT_TIMEOUT_MS,
    headMs: config.HEAD_TIMEOUT_MS,
    idleMs: config.IDLE_TIMEOUT_MS,
    drainNoticeMs: config.DRAIN_NOTICE_MS,
  }
  const listener = (name: string, upstream: string, listenPort: number): ProxyListener =>
    new ProxyListener({
      name,
      host: config.LISTEN_HOST,
      port: listenPort,
      upstream: httpProxyMiddlewareUpstream(upstream),
      limits,
      trustedProxies: config.TRUSTED_PROXIES,
      log,
      onPassed: (passed) => {
        const hop = hopOfPass(name, passed)
        if (hop !== undefined) recorder.record(hop)
      },
    })
  const shop = listener('shop', config.SHOP_UPSTREAM, config.SHOP_LISTEN_PORT)
  const crm = listener('crm', config.CRM_UPSTREAM, config.CRM_LISTEN_PORT)
  const mes = listener('mes', config.MES_UPSTREAM, config.MES_LISTEN_PORT)
  const door = frontDoor({
    shop,
    crm,
    mes,
    recorder,
    admin: (isReady) =>
      adminListener({
        host: config.LISTEN_HOST,
        port: config.ADMIN_PORT,
        isReady,
        numbers: () => ({
          shop: shop.numbers(),
          crm: crm.numbers(),
          mes: mes.numbers(),
          hops: recorder.numbers(),
          rss: process.memoryUsage.rss(),
        }),
      }),
  })
  return {
    async start() {
      await door.start()
      const ports = door.ports()
      process.send?.({ type: 'ports', ...ports })
      process.stdout.write(`${JSON.stringify({ listening: ports })}\n`)
    },
    stop: () => door.stop(),
    port: () => door.ports().shop,
  }
})
