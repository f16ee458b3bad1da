import amqp from 'amqplib'

import { serialWith } from '../test/optional-server.ts'
import { startMortalParent } from './mortal-parent.ts'
import { startPrivateRabbitmq } from './private-rabbitmq.ts'
import { descendantsOf, isRunning } from './process-table.ts'
import { goneFromTable } from './process-tree.ts'

const rabbitTest = serialWith('rabbitmq-server')

rabbitTest('a kill -9 keeps confirmed persistent messages', async (t) => {
  t.timeout(180_000)
  const broker = await startPrivateRabbitmq()
  try {
    t.false([5672, 15672].includes(broker.port))
    const connection = await amqp.connect(broker.url)
    connection.on('error', () => {})
    const channel = await connection.createConfirmChannel()
    await channel.assertQueue('kept', { durable: true })
    for (let i = 0; i < 100; i += 1) {
      channel.sendToQueue('kept', Buffer.from(`${i}`), { persistent: true })
    }
    await channel.waitForConfirms()
    // A declared queue is confirmed before its record is on disk. One that is a moment older is, and this is about its messages.
    await broker.ctl('eval', 'mnesia:sync_log().')
    const closed = new Promise((resolve) => {
      connection.once('close', resolve)
    })
    await broker.restart('kill9')
    await closed
    t.regex(await broker.ctl('list_queues', 'name', 'messages'), /^kept\s+100$/m)

    const { origin, username, password } = new URL(broker.managementUrl)
    const overview = await fetch(`${origin}/api/overview`, {
      headers: { authorization: `Basic ${btoa(`${username}:${password}`)}` },
    })
    t.is(overview.status, 200)
    await overview.body?.cancel()
  } finally {
    await Promise.all([broker.stop(), broker.stop()])
  }
  t.false(isRunning(broker.pid))
})

rabbitTest('a parent killed by SIGKILL leaves neither node nor epmd', async (t) => {
  t.timeout(180_000)
  const code = `
    import { startPrivateRabbitmq } from ${JSON.stringify(import.meta.resolve('./private-rabbitmq.ts'))}
    await startPrivateRabbitmq()
    console.log('started')`
  const parent = await startMortalParent(t, code)
  const all = descendantsOf(parent.pid)
  t.true(all.length >= 2)
  await parent.killNow()
  await goneFromTable(all)
  t.true(all.every((pid) => !isRunning(pid)))
})
