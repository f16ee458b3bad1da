import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

import express from 'express'
import multer from 'multer'
import pg from 'pg'

import { port, readConfig, text, url } from '../../runtime/config.ts'

/**
 * What one would write in an afternoon, as the peer of the intake: express, multer to a folder, one INSERT per order. It reads the
 * file once more for its hash, forgets it in a power cut, and takes an order twice when it is sent twice.
 */
const config = readConfig({
  DATABASE_URL: url('postgres', 'postgresql'),
  MODEL_DIR: text(),
  PORT: port,
})
const pool = new pg.Pool({ connectionString: config.DATABASE_URL, max: 8 })
const upload = multer({ dest: config.MODEL_DIR })
const app = express()
app.post('/api/partner/v1/orders', upload.single('model'), async (request, response) => {
  const { file } = request
  const fields: Record<string, string> = request.body
  if (file === undefined) {
    response.status(400).json({ error: 'model is missing' })
    return
  }
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file.path) as AsyncIterable<Buffer>) hash.update(chunk)
  const { rows } = await pool.query<{ id: string }>(
    `INSERT INTO plain_order (external_id, material, quantity, comment, model_path, model_sha256)
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
    [
      fields['external_id'],
      fields['material'],
      Number(fields['quantity']),
      fields['comment'],
      file.path,
      hash.digest('hex'),
    ],
  )
  response
    .status(201)
    .json({ id: rows[0]!.id, external_id: fields['external_id'], status: 'SUBMITTED' })
})
const server = app.listen(config.PORT, '127.0.0.1', () => {
  const address = server.address()
  process.send?.({ type: 'ready', port: typeof address === 'object' ? address?.port : undefined })
})
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
