import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { keepExisting, databasesOf } from '../estate/postgres-server.ts'
import { killTree } from '../estate/process-tree.ts'
import { customersOf, expectHonest } from './customers.ts'
import { installGuard, moveShare, startDirectWay } from './direct-way-fixture.ts'
import { type ReplicatedPostgres, startReplicatedPostgres } from './postgres-standby.ts'
import { startTcpForwarder, type TcpForwarder } from './tcp-forwarder.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The server that holds everything is lost, its synchronous standby becomes the server, and the address moves to it: no commit
 * that was answered is lost, and what was under way is neither lost nor done twice.
 */
let servers: ReplicatedPostgres
let address: TcpForwarder
/** That of the ledger, for those who carry: its end of their connections is lost without a word. */
let ledgerAddress: TcpForwarder
let estate: Estate

test.before(async () => {
  servers = await startReplicatedPostgres()
  address = await startTcpForwarder(servers.primary.port)
  const url = new URL(servers.primary.url)
  url.port = `${address.port}`
  estate = await startDirectWay({
    postgres: {
      ...servers.primary,
      url: url.href,
      port: address.port,
      ...databasesOf(url.href, keepExisting),
    },
  })
  ledgerAddress = await startTcpForwarder(servers.primary.port)
  for (const name of ['relay', 'courier', 'watch'] as const) {
    await estate.process(name).terminate()
    const ledger = new URL(estate.postgres.urlFor('ledger', `${name}_login`))
    ledger.port = `${ledgerAddress.port}`
    await estate.launch(name, { LEDGER_URL: ledger.href, LOST_AFTER_MS: '2000' })
  }
  await installGuard(estate)
  await moveShare(estate, '100%')
})
test.after.always(async () => {
  await estate?.stop()
  await address?.close()
  await ledgerAddress?.close()
  await servers?.stop()
})

test('failover to the synchronous standby while orders flow', async (t) => {
  const customers = await customersOf(estate)
  const more = async (count: number): Promise<void> => {
    const enough = customers.acknowledged.length + count
    await waitUntil(`${count} more orders`, async () => customers.acknowledged.length >= enough)
  }
  await more(100)
  ledgerAddress.fallSilent()
  await killTree(servers.primary.pid)
  const refused = customers.unanswered.length
  await waitUntil('a customer meets the outage', async () => customers.unanswered.length > refused)
  await servers.standby.promote()
  address.pointTo(servers.standby.port)
  ledgerAddress.pointTo(servers.standby.port)
  await more(100)
  await expectHonest(t, estate, customers)
  const doctor = await estate.strangler('doctor')
  t.regex(doctor.stdout, /ok +owners of orders/)
  const reconciled = await estate.strangler('reconcile', '--watermark', '1s', '--json')
  t.deepEqual(JSON.parse(reconciled.stdout).books.unbalanced, [])
  t.notRegex(reconciled.stdout, /"toward": ?"MES"/)
})
