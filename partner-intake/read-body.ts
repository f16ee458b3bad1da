import type { IncomingMessage } from 'node:http'

import { longestBody } from './read-submission.ts'
import { Refusal } from './refusal.ts'

/**
 * A request's body as it comes. The time runs only while the client is waited for: not while the store takes what it has sent, nor
 * while its answer is made. A timeout of the socket would count those too, and Node lifts it from the second request on.
 * @throws Refusal `request_cut`, `too_large`
 */
export async function* readBody(request: IncomingMessage, idleMs: number): AsyncGenerator<Buffer> {
  // A request that is destroyed with its iterator could not be answered any more.
  const chunks: AsyncIterator<Buffer> = request.iterator({ destroyOnReturn: false })
  let length = 0
  for (;;) {
    const next = await within(idleMs, chunks.next())
    if (next.done === true) return
    length += next.value.length
    if (length > longestBody) throw new Refusal('too_large', 'the model is too large')
    yield next.value
  }
}

async function within<Value>(idleMs: number, waited: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined
  const idle = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Refusal('request_cut', 'the request broke off')), idleMs)
  })
  try {
    return await Promise.race([waited, idle])
  } finally {
    clearTimeout(timer)
  }
}
