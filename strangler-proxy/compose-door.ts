import { StranglerError } from '../contracts/errors.ts'
import {
  integer,
  optional,
  origin,
  port,
  readConfig,
  text,
  url,
  withDefault,
} from '../runtime/config.ts'
import { HopRecorder } from '../runtime/hop-recorder.ts'
import { inOrder } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'
import { PrometheusMetrics } from '../runtime/prometheus.ts'
import { tracingMetrics } from '../runtime/tracing-metrics.ts'
import { openTracing } from '../runtime/tracing.ts'
import { adminListener } from './admin-listener.ts'
import { Backend } from './backend.ts'
import { frontDoor } from './front-door.ts'
import type { FrontDoor } from './front-door.ts'
import { hopOfPass } from './hop-of-pass.ts'
import { httpProxyMiddlewareUpstream } from './http-proxy-middleware-upstream.ts'
import { defaultLimits } from './limits.ts'
import { PartnerRoutes } from './partner-routes.ts'
import { PartnerSeam } from './partner-seam.ts'
import { PartnerShadowBooks } from './partner-shadow-books.ts'
import { partnerShadowMetrics } from './partner-shadow-metrics.ts'
import { PartnerShadow } from './partner-shadow.ts'
import { ProxyListener } from './proxy-listener.ts'
import { proxyMetrics } from './proxy-metrics.ts'
import { ipList, shadowShare } from './proxy-settings.ts'
import { spanOfPass } from './span-of-pass.ts'
import { submitTraces } from './submit-traces.ts'

const milliseconds = integer({ min: 1, max: 3_600_000 })

/** The door as its environment wants it; the lease is of whoever starts it. */
export async function composeDoor(log: Log): Promise<{ door: FrontDoor; ledger: Pool }> {
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
    INTAKE_URL: optional(url('postgres', 'postgresql')),
    INTAKE_UPSTREAM: optional(origin),
    PARTNER_SETTLE_MS: withDefault(milliseconds, 5000),
    PARTNER_SHADOW: shadowShare,
    PARTNER_SHADOW_TIMEOUT_MS: withDefault(milliseconds, 5000),
    PARTNER_SHADOW_GRACE_MS: withDefault(milliseconds, 2000),
    TRUSTED_PROXIES: ipList,
    CONNECT_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.connectMs),
    HEAD_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.headMs),
    IDLE_TIMEOUT_MS: withDefault(milliseconds, defaultLimits.idleMs),
    DRAIN_NOTICE_MS: withDefault(integer({ min: 0, max: 5000 }), defaultLimits.drainNoticeMs),
  })
  const { INTAKE_URL: intakeUrl, INTAKE_UPSTREAM: intakeUpstream } = config
  if ((intakeUrl === undefined) !== (intakeUpstream === undefined))
    throw new StranglerError(
      'invalid_configuration',
      'INTAKE_URL and INTAKE_UPSTREAM expected to be set both or neither',
    )
  if (config.PARTNER_SHADOW > 0 && intakeUrl === undefined)
    throw new StranglerError(
      'invalid_configuration',
      'PARTNER_SHADOW expected INTAKE_URL and INTAKE_UPSTREAM to be set as well',
    )
  const ledger = createPool(config.LEDGER_URL, { name: 'strangler-proxy', max: 2, log })
  const recorder = new HopRecorder(ledger, log)
  const metrics = new PrometheusMetrics()
  const tracing = await openTracing('strangler-proxy', log)
  tracingMetrics(metrics, tracing)
  const counted = proxyMetrics(metrics)
  const submits = submitTraces(
    createPool(config.LEDGER_URL, { name: 'strangler-proxy', max: 1, keepIdle: true, log }),
    log,
    tracing.on,
  )
  const limits = {
    ...defaultLimits,
    connectMs: config.CONNECT_TIMEOUT_MS,
    headMs: config.HEAD_TIMEOUT_MS,
    idleMs: config.IDLE_TIMEOUT_MS,
    drainNoticeMs: config.DRAIN_NOTICE_MS,
  }
  const backend = (name: string, upstream: string): Backend =>
    new Backend(name, httpProxyMiddlewareUpstream(upstream), limits.places)
  const routes =
    intakeUrl === undefined
      ? undefined
      : new PartnerRoutes({
          pool: createPool(intakeUrl, {
            name: 'strangler-proxy',
            max: 1,
            keepIdle: true,
            answerWithinMs: 2000,
            log,
          }),
          settleMs: config.PARTNER_SETTLE_MS,
          log,
        })
  const shadow =
    routes === undefined || config.PARTNER_SHADOW === 0
      ? undefined
      : new PartnerShadow({
          share: config.PARTNER_SHADOW,
          intakeOrigin: intakeUpstream!,
          mesOrigin: config.MES_UPSTREAM,
          routes,
          books: new PartnerShadowBooks(
            createPool(intakeUrl!, { name: 'strangler-proxy', max: 1, answerWithinMs: 5000, log }),
            log,
          ),
          timeoutMs: config.PARTNER_SHADOW_TIMEOUT_MS,
          graceMs: config.PARTNER_SHADOW_GRACE_MS,
          log,
        })
  if (shadow !== undefined) partnerShadowMetrics(metrics, shadow)
  const partners =
    routes === undefined || intakeUpstream === undefined
      ? undefined
      : new PartnerSeam(backend('intake', intakeUpstream), routes, shadow)
  const listener = (name: string, upstream: string, listenPort: number): ProxyListener =>
    new ProxyListener({
      name,
      host: config.LISTEN_HOST,
      port: listenPort,
      backend: backend(name, upstream),
      ...(name === 'mes' && { partners }),
      limits,
      trustedProxies: config.TRUSTED_PROXIES,
      log,
      spansAreMade: tracing.on,
      ...(name === 'shop' && { onEntered: (exchange) => submits.note(exchange) }),
      onEnded: (ended) => counted.onEnded(name, ended),
      onPassed: (passed) => {
        const hop = hopOfPass(name, passed)
        if (hop !== undefined) recorder.record(hop)
        if (!tracing.on) return
        const span = spanOfPass(name, passed)
        if (span !== undefined) tracing.record(span)
      },
    })
  const shop = listener('shop', config.SHOP_UPSTREAM, config.SHOP_LISTEN_PORT)
  const crm = listener('crm', config.CRM_UPSTREAM, config.CRM_LISTEN_PORT)
  const mes = listener('mes', config.MES_UPSTREAM, config.MES_LISTEN_PORT)
  counted.describe(new Map(Object.entries({ shop, crm, mes })), recorder)
  const door = frontDoor({
    shop,
    crm,
    mes,
    recorder: inOrder([
      tracing,
      submits,
      recorder,
      ...(routes === undefined ? [] : [routes]),
      ...(shadow === undefined ? [] : [shadow]),
    ]),
    admin: (isReady) =>
      adminListener({
        host: config.LISTEN_HOST,
        port: config.ADMIN_PORT,
        isReady,
        metrics,
      }),
  })
  return { door, ledger }
}
