import express, { type Response, type Router } from 'express'

import { MalformedMultipart, type Part } from '../contracts/multipart-reader.ts'
import {
  readShadowOrder,
  shadowHeader,
  type ShadowOrder,
  shadowOrdersPath,
  type ShadowPart,
} from '../contracts/partner-shadow.ts'
import type { Log } from '../runtime/log.ts'
import type { StoredModel } from './model-store.ts'
import type { Partner, Partners } from './partners.ts'
import { Quotas } from './quotas.ts'
import { readSubmission } from './read-submission.ts'
import { Refusal } from './refusal.ts'
import type { SubmitParts } from './submit-order.ts'
import { answersRefusals, checkHead, takeOrder } from './take-order.ts'

// The proxy keeps 64 KB of fields, which are a third longer as Base64.
const longestOrder = '256kb'

/** The proxy has not seen enough of the order to say what would have been answered. */
class NotSeen extends Error {
  override readonly name = 'NotSeen'
}

/**
 * Answers what a partner would have got for an order, by the same checks, with a store and an acceptance that keep nothing: no
 * row, no file, no use of a key, and no part of a partner's quota. It knows no orders either, so it never says that one is there.
 */
export function quarantine(
  parts: SubmitParts & { readonly partners: Partners; readonly log: Log },
): Router {
  const { partners, log } = parts
  // Of its own: what is spent here is not the partner's.
  const quotas = new Quotas()
  const known = new WeakMap<Response, Partner>()
  const sink: SubmitParts = {
    ...parts,
    accepting: {
      accept: ({ orderId, status, body }) =>
        Promise.resolve({ outcome: 'accepted', orderId, status, body }),
    },
  }
  const router = express.Router()
  router.post(
    shadowOrdersPath,
    (request, _response, next) => {
      next(request.get(shadowHeader) === undefined ? 'router' : undefined)
    },
    express.json({ limit: longestOrder }),
    async (request, response) => {
      const order = readShadowOrder(request.body)
      if (order === undefined) {
        response.status(400).json({ error: 'this is no order' })
        return
      }
      response.set(shadowHeader, 'answer')
      const partner = await partners.ofKey(Buffer.from(order.apiKeySha256, 'hex'))
      known.set(response, partner)
      quotas.spend(partner)
      const head = (name: string): string | undefined => order.headers[name]
      const { key } = checkHead(partner, head)
      const submission = await readSubmission(partsOf(order), hashedModel)
      await takeOrder(sink, { partner, head, key, apiKey: '' }, submission, response)
    },
  )
  router.use(
    (error: unknown, _request: unknown, response: Response, next: express.NextFunction) => {
      if (!(error instanceof NotSeen)) {
        next(error)
        return
      }
      response.removeHeader(shadowHeader)
      response.status(204).end()
    },
  )
  router.use(answersRefusals((response) => known.get(response), log))
  return router
}

interface RecordedPart extends Part {
  readonly recorded: ShadowPart
  /** What reading it to its end throws. */
  readonly breaks: Error | undefined
}

async function* partsOf(order: ShadowOrder): AsyncGenerator<RecordedPart> {
  const end =
    order.end === 'whole'
      ? undefined
      : order.end === 'cut'
        ? new NotSeen('the order was not seen to its end')
        : new MalformedMultipart(order.detail ?? '')
  for (const [at, recorded] of order.parts.entries()) {
    const breaks = order.lastIsBroken && at === order.parts.length - 1 ? end : undefined
    const { name, isFile } = recorded
    yield { name, isFile, recorded, breaks, content: contentOf(recorded, breaks) }
  }
  if (end !== undefined) throw end
}

async function* contentOf(part: ShadowPart, breaks: Error | undefined): AsyncGenerator<Buffer> {
  yield Buffer.from(part.value ?? '', 'base64')
  if (breaks !== undefined) throw breaks
}

/** Stores nothing, and says what the store would have said. */
async function hashedModel(
  { recorded, breaks }: RecordedPart,
  longest: number,
): Promise<StoredModel> {
  const { bytes, sha256 } = recorded
  if (bytes > longest) throw new Refusal('model_too_large', `a model may have ${longest} bytes`)
  if (breaks !== undefined) throw breaks
  if (bytes === 0) throw new Refusal('empty_model', 'the model file is empty')
  if (sha256 === undefined) throw new NotSeen('the model was not hashed')
  return { key: `models/${sha256.slice(0, 2)}/${sha256}`, sha256, bytes }
}
