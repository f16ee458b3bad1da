import test from 'ava'

import { Refusal } from '../refusal.ts'
import { MultipartReader } from './multipart-reader.ts'

const type = 'multipart/form-data; boundary="b-1"'
const body = Buffer.from(
  'preamble\r\n--b-1\r\nContent-Disposition: form-data; name="material"\r\n\r\nPLA\r\n--b-1 \r\n--b\r\n' +
    '\r\n--b-1\r\ncontent-disposition: form-data; filename="größe.stl"; name=model\r\nX: y\r\n\r\n\r\n--b-\r\n' +
    '\r\n--b-1--\r\nepilogue',
)

async function* cut(content: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size)
}

async function partsOf(content: Buffer, size: number, contentType = type) {
  const parts: [name: string, isFile: boolean, text: string][] = []
  for await (const part of new MultipartReader(cut(content, size), contentType).parts()) {
    const chunks: Buffer[] = []
    for await (const chunk of part.content) chunks.push(chunk)
    parts.push([part.name, part.isFile, Buffer.concat(chunks).toString()])
  }
  return parts
}

test('reads every part, wherever the chunks are cut', async (t) => {
  const simple = Buffer.from(body.toString().replace('\r\n--b-1 \r\n--b\r\n', '\r\n--b-2'))
  for (let size = 1; size <= simple.length; size += 1) {
    t.deepEqual(
      await partsOf(simple, size),
      [
        ['material', false, 'PLA\r\n--b-2'],
        ['model', true, '\r\n--b-\r\n'],
      ],
      `chunks of ${size}`,
    )
  }
})

test('takes nothing that is not closed, not named or not multipart', async (t) => {
  const part = '--b-1\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'
  const refused: [what: string, content: string, contentType?: string][] = [
    ['a boundary that goes on', body.toString()],
    ['no end', part],
    ['no last boundary', `${part}\r\n--b-1\r\n`],
    ['no name', '--b-1\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b-1--'],
    ['an endless head', `--b-1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n1\r\n--b-1--`],
    ['too many parts', `${`${part}\r\n`.repeat(60)}--b-1--`],
    ['another type', part, 'application/json'],
    ['no boundary', part, 'multipart/form-data'],
    ['nothing', ''],
  ]
  for (const [what, content, contentType] of refused) {
    const error = await t.throwsAsync(() => partsOf(Buffer.from(content), 1000, contentType), {
      instanceOf: Refusal,
    })
    t.is(error?.status, 400, what)
  }
})
