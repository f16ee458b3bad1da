import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'

import test from 'ava'

import { PassingAnswer } from './partner-shadow-answer.ts'
import { PassingOrder } from './partner-shadow-order.ts'

const headers = {
  'content-type': 'multipart/form-data; boundary=b',
  'idempotency-key': 'k',
  'x-api-key': 'secret',
}
const model = Buffer.from('solid \r\n--c \r\n-- x')

function part(head: string, content: Buffer | string): Buffer {
  return Buffer.concat([
    Buffer.from(`--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n`),
    Buffer.from(content),
    Buffer.from('\r\n'),
  ])
}

const body = Buffer.concat([
  part('name="comment"', 'für x'),
  part('name="model"; filename="a.stl"', model),
  part('name="external_id"', '7'),
  Buffer.from('--b--\r\n'),
])

function chunksOf(bytes: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
  return chunks
}

async function read(chunks: readonly Buffer[], ends = true) {
  const order = new PassingOrder(headers, 'secret')
  for (const chunk of chunks) order.bytes(chunk)
  if (ends) order.end()
  return await order.finish()
}

test('an order is read alike in whatever pieces it comes, all of them in one turn', async (t) => {
  const whole = await read([body])
  t.deepEqual(whole, {
    apiKeySha256: createHash('sha256').update('secret').digest('hex'),
    headers: { 'content-type': headers['content-type'], 'idempotency-key': 'k' },
    parts: [
      {
        name: 'comment',
        isFile: false,
        bytes: 6,
        value: Buffer.from('für x').toString('base64'),
      },
      {
        name: 'model',
        isFile: true,
        bytes: model.length,
        sha256: createHash('sha256').update(model).digest('hex'),
      },
      { name: 'external_id', isFile: false, bytes: 1, value: Buffer.from('7').toString('base64') },
    ],
    end: 'whole',
    lastIsBroken: false,
  })
  for (let size = 1; size < body.length; size += 1)
    t.deepEqual(await read(chunksOf(body, size)), whole, `pieces of ${size}`)
})

test('how it ended is told: in the middle of a part, behind it, or cut off by an early answer', async (t) => {
  const inModel = body.subarray(0, body.indexOf('solid') + 9)
  t.like(await read([inModel]), { end: 'malformed', lastIsBroken: true, parts: { length: 2 } })
  t.like(await read([inModel], false), { end: 'cut', lastIsBroken: true, parts: { length: 2 } })
  const none = await read([Buffer.from('no form')])
  t.like(none, { end: 'malformed', detail: 'the body ends before its last boundary', parts: [] })
})

test('no more is kept than there is room for', async (t) => {
  const long = await read([part('name="x"', 'x'.repeat(40_000)), Buffer.from('--b--\r\n')])
  t.is(long?.parts[0]?.bytes, 40_000)
  t.is(Buffer.from(long?.parts[0]?.value ?? '', 'base64').length, 16 * 1024)
  const many = Array.from({ length: 10 }, (_, n) => part(`name="f${n}"`, 'x'.repeat(10_000)))
  t.is(await read([...many, Buffer.from('--b--\r\n')]), undefined)
  const atOnce = Array.from({ length: 20 }, () => Buffer.alloc(100_000))
  t.is(await read([part('name="model"; filename="a"', ''), ...atOnce]), undefined)
})

function answer(coding: string | undefined, bytes: Buffer) {
  const passing = new PassingAnswer()
  passing.head({
    statusCode: 201,
    headers: {
      'content-type': 'a/b',
      ...(coding !== undefined && { 'content-encoding': coding }),
    },
  })
  for (const chunk of chunksOf(bytes, 1000)) passing.bytes(chunk)
  return passing.finish()
}

test('an answer is kept if it is short, and read in the codings that partners ask for', (t) => {
  const text = Buffer.from('{"id":"x"}')
  const kept = { status: 201, contentType: 'a/b', body: text }
  t.deepEqual(answer(undefined, text), kept)
  t.deepEqual(answer('gzip', gzipSync(text)), kept)
  t.is(answer('zstd', text), undefined)
  t.is(answer('gzip', text), undefined)
  t.is(answer('gzip', gzipSync(Buffer.alloc(10_000_000))), undefined)
  t.is(answer(undefined, Buffer.alloc(65_537)), undefined)
})
