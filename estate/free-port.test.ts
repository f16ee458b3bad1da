import { once } from 'node:events'
import { createServer } from 'node:net'

import test from 'ava'

import { freePort } from './free-port.ts'
import { run } from './run-command.ts'

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

test('a port is nobody else’s while its process lives', async (t) => {
  const port = await freePort()
  const script = `
    const server = require('node:net').createServer()
    server.on('error', (error) => console.log(error.code))
    server.listen({ path: '\\0strangler-port-${port}' }, () => { console.log('mine'); server.close() })`
  t.is((await run(process.execPath, ['-e', script], {})).stdout.trim(), 'EADDRINUSE')
})
