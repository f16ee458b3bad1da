import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'

import { spawnNode } from './child-process.ts'
import { startMortalParent } from './mortal-parent.ts'
import { isRunning, readProcess } from './process-table.ts'
import { goneFromTable } from './process-tree.ts'

const folder = mkdtempSync(join(tmpdir(), 'estate-test-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

function script(name: string, code: string): string {
  const file = join(folder, `${name}.mjs`)
  writeFileSync(file, code)
  return file
}

const listening = script(
  'listening',
  `import { createServer } from 'node:http'
   const server = createServer((_, response) => response.end('ok'))
   server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
     console.log('given: ' + Object.keys(process.env).sort().join(' '))
     process.send({ type: 'ready', port: server.address().port })
   })
   process.on('SIGTERM', () => process.exit(0))`,
)

test('is ready with its port, sees only the environment it was given, ends on SIGTERM', async (t) => {
  const child = spawnNode('listening', listening, { env: { GIVEN: '1' } })
  t.teardown(() => child.terminate())
  const given = new Promise<string>((resolve) => {
    child.onLine((line) => line.startsWith('given: ') && resolve(line))
  })
  await child.ready
  t.is(await (await fetch(`http://127.0.0.1:${child.port}`)).text(), 'ok')
  const names = (await given).slice('given: '.length).split(' ')
  const allowed = ['GIVEN', 'HOME', 'PATH', 'TZ', 'NODE_COMPILE_CACHE', 'NODE_V8_COVERAGE']
  t.deepEqual(
    names.filter((name) => !allowed.includes(name)),
    [],
  )
  t.true(names.includes('GIVEN'))
  t.deepEqual(await child.terminate(), { code: 0, signal: null })
  t.deepEqual(await child.terminate(), { code: 0, signal: null })
})

test('a restart after kill -9 comes back on the same port', async (t) => {
  const child = spawnNode('listening', listening)
  t.teardown(() => child.terminate())
  await child.ready
  const { port, pid } = child
  child.kill('SIGKILL')
  t.is((await child.exited).signal, 'SIGKILL')
  await child.restart()
  t.is(child.port, port)
  t.not(child.pid, pid)
  await child.terminate()
})

test('an exit before ready rejects with the last words', async (t) => {
  const file = script('failing', `console.error('no database'); process.exitCode = 3`)
  const child = spawnNode('failing', file)
  t.teardown(() => child.terminate())
  const error = await t.throwsAsync(child.ready)
  t.regex(error?.message ?? '', /failing ended before it was ready \(code 3[^]*no database/)
})

test('one that does not hear SIGTERM is killed at the deadline', async (t) => {
  const file = script(
    'deaf',
    `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); process.send({ type: 'ready' })`,
  )
  const child = spawnNode('deaf', file)
  t.teardown(() => child.terminate())
  await child.ready
  t.is((await child.terminate(50)).signal, 'SIGKILL')
})

test('a paused one is stopped, and hears SIGTERM all the same', async (t) => {
  const child = spawnNode('listening', listening)
  t.teardown(() => child.terminate())
  await child.ready
  child.pause()
  t.is(readProcess(child.pid)?.state, 'T')
  t.deepEqual(await child.terminate(), { code: 0, signal: null })
})

// A broker that is told to hang and confirms one more message is no broker that hangs.
test('once it is paused no thread of it does anything more', async (t) => {
  const counted = join(folder, 'counted')
  const counting = script(
    'counting',
    `import { openSync, writeSync } from 'node:fs'
     import { Worker, isMainThread } from 'node:worker_threads'
     const file = openSync(process.env.COUNTED, 'a')
     if (isMainThread) for (let n = 0; n < 8; n += 1) new Worker(new URL(import.meta.url))
     if (isMainThread) setTimeout(() => process.send({ type: 'ready' }), 1)
     else for (;;) writeSync(file, '.')`,
  )
  const child = spawnNode('counting', counting, { env: { COUNTED: counted } })
  t.teardown(() => child.terminate(0))
  await child.ready
  while (statSync(counted).size === 0) await new Promise(setImmediate)
  for (let round = 0; round < 20; round += 1) {
    child.pause()
    const { size } = statSync(counted)
    await delay(20)
    t.is(statSync(counted).size, size)
    child.resume()
    while (statSync(counted).size === size) await new Promise(setImmediate)
  }
})

test('a parent killed by SIGKILL leaves no child, not even a paused or a busy one', async (t) => {
  const busy = script('busy', `process.send({ type: 'ready' }, () => { for (;;) {} })`)
  const code = `
    import { spawnNode } from ${JSON.stringify(import.meta.resolve('./child-process.ts'))}
    const paused = spawnNode('paused', ${JSON.stringify(listening)})
    const busy = spawnNode('busy', ${JSON.stringify(busy)})
    await Promise.all([paused.ready, busy.ready])
    paused.pause()
    console.log([paused.pid, busy.pid].join(' '))`
  const parent = await startMortalParent(t, code)
  const pids = parent.line.split(' ').map(Number)
  t.true(pids.every(isRunning))
  await parent.killNow()
  await goneFromTable(pids)
  t.false(pids.some(isRunning))
})
