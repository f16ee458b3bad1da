import { createHash } from 'node:crypto'

import { type Estate, type EstateOptions, startEstate } from '../estate/estate.ts'
import { openapiConformance, violationLine } from '../estate/openapi-conformance.ts'
import { openapiText } from '../partner-intake/api-contract.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'

/** Keys as the MES has them, by partner. */
export const partnerKeys = { Acme: 'key-acme', Bolt: 'key-bolt', Strict: 'key-strict' } as const

export interface PartnerEstate {
  readonly estate: Estate
  readonly intake: Pool
  /** The base of the partner API at the MES and at the intake. */
  readonly mesApi: string
  readonly intakeApi: string
  /** What share of the orders of partners behind the intake it accepts itself, in ten-thousandths. */
  route(share: number): Promise<void>
  stop(): Promise<void>
}

const onlyMesAndIntake = [
  'shop',
  'crm',
  'proxy',
  'bridge',
  'relay',
  'courier',
  'watch',
  'applier',
  'shadow',
] as const

/** What carries a partner's order from the intake to the MES, and back what is told of it. */
export const wholeWay = ['intake', 'intake-relay', 'intake-feed'] as const

/** A MES with partners, and the intake with the same ones behind it; nothing of the rest of the estate unless it is asked for. */
export async function startPartnerEstate(options: EstateOptions = {}): Promise<PartnerEstate> {
  const estate = await startEstate({
    without: onlyMesAndIntake,
    with: ['intake'],
    ...options,
    settings: {
      ...options.settings,
      mes: {
        MES_PARTNERS: JSON.stringify(
          Object.fromEntries(Object.entries(partnerKeys).map(([name, key]) => [key, name])),
        ),
        ...options.settings?.mes,
      },
    },
  })
  const intake = createPool(estate.databases.intake, { name: 'test', log: createLog('test') })
  for (const [name, key] of Object.entries(partnerKeys)) {
    await intake.query(
      `INSERT INTO partner (id, mode, route, entered_at)
       VALUES ($1, CASE WHEN $1 = 'Strict' THEN 'strict' ELSE 'compat' END, 'intake', now())`,
      [name],
    )
    await intake.query(
      'INSERT INTO api_key (id, partner, secret_sha256, imported) VALUES ($1, $2, $3, true)',
      [`imported-${name}`, name, createHash('sha256').update(key).digest()],
    )
  }
  return {
    estate,
    intake,
    mesApi: `${estate.legacy.mes}/api/partner/v1`,
    get intakeApi() {
      return `http://127.0.0.1:${estate.process('intake').port}/api/partner/v1`
    },
    async route(share) {
      await intake.query(
        `INSERT INTO strangler.route AS r (phase, epoch, share, seed) VALUES ('partner-intake', 1, $1, 1)
         ON CONFLICT (phase) DO UPDATE SET epoch = r.epoch + 1, share = excluded.share`,
        [share],
      )
    },
    async stop() {
      await intake.end()
      await estate.stop()
    },
  }
}

export interface PartAnswer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

const { answerViolations } = openapiConformance(openapiText)

/**
 * One request of a partner, and the whole of its answer.
 * @throws Error when the OpenAPI document does not describe the answer
 */
export async function call(url: string, init: RequestInit = {}): Promise<PartAnswer> {
  const response = await fetch(url, init)
  const { status, headers } = response
  const answer = { status, headers, text: await response.text() }
  const found = answerViolations({ method: init.method ?? 'GET', url }, answer)
  if (found.length > 0) throw new Error(found.map(violationLine).join('\n'))
  return answer
}

export interface OrderParts {
  readonly fields?: readonly (readonly [name: string, value: string | Uint8Array])[]
  readonly model?: Uint8Array | undefined
  /** Before the fields. */
  readonly modelFirst?: boolean
  readonly boundary?: string
}

/** A form as bytes, so that it can be wrong in every way. */
export function formBytes(parts: OrderParts): { body: Buffer; contentType: string } {
  const boundary = parts.boundary ?? `b${Math.random().toString(36).slice(2)}`
  const pieces: Buffer[] = []
  const add = (head: string, value: string | Uint8Array): void => {
    pieces.push(
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n`),
      Buffer.from(value),
      Buffer.from('\r\n'),
    )
  }
  const model = (): void => {
    if (parts.model !== undefined) add('name="model"; filename="../größe.stl"', parts.model)
  }
  if (parts.modelFirst === true) model()
  for (const [name, value] of parts.fields ?? []) add(`name="${name}"`, value)
  if (parts.modelFirst !== true) model()
  pieces.push(Buffer.from(`--${boundary}--\r\n`))
  return {
    body: Buffer.concat(pieces),
    contentType: `multipart/form-data; boundary=${boundary}`,
  }
}

export function submit(
  api: string,
  key: string,
  parts: OrderParts,
  headers: Readonly<Record<string, string>> = {},
): Promise<PartAnswer> {
  const { body, contentType } = formBytes(parts)
  return call(`${api}/orders`, {
    method: 'POST',
    headers: { 'x-api-key': key, 'content-type': contentType, ...headers },
    body: new Uint8Array(body),
  })
}
