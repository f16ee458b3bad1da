import type { Client } from '../runtime/postgres.ts'

/*
 * Whoever puts a status on its way by the pin of its order shares this lock from the look at the pin to the commit; a repin has it
 * alone while it changes pins. So none goes a way that is not the order's any more, and rows of the ledger are locked for none.
 * Class 47; its key is 0.
 */

/** First in the transaction: statements after it see what a repin has changed. */
export async function sharePins(client: Client): Promise<void> {
  await client.query('SELECT pg_advisory_xact_lock_shared(47, 0)')
}

/**
 * The bridge waits meanwhile. So nothing here waits for long, neither for a bridge that was frozen in a transaction, nor, should
 * this process be frozen, the bridge for it.
 */
export async function ownPins(client: Client): Promise<void> {
  await client.query(
    `SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'`,
  )
  await client.query('SELECT pg_advisory_xact_lock(47, 0)')
}
