import { once } from 'node:events'
import { createServer } from 'node:net'

import test from 'ava'

import { freePort } from './free-port.ts'

test('ports are free, different, and below the range of outgoing connections', async (t) => {
  const ports = await Promise.all(Array.from({ length: 20 }, () => freePort()))
  t.is(new Set(ports).size, 20)
  for (const port of ports) {
    t.true(port < 32_768)
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    server.close()
  }
})
