import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'

import { CsvError, parse } from 'csv-parse'

import { asStranglerError, StranglerError } from '../../contracts/errors.ts'

/** One invoice of the day file, as an order. */
export interface InvoiceOrder {
  readonly invoice: string
  /** Undefined = a guest. */
  readonly customer: string | undefined
  readonly quantity: number
  readonly comment: string
}

interface Invoice {
  readonly customer: string | undefined
  quantity: number
  lines: number
  readonly country: string
}

type Row = Readonly<Record<string, string | undefined>>

/**
 * Reads a day of UCI "Online Retail": an invoice is an order, its lines repeat the number; invoices that start with C are
 * cancellations, not orders; rows without a CustomerID are guest orders; ids are written as `17850.0`.
 * @throws StranglerError `invalid_argument` when the file can't be read, or lacks one of the columns it needs
 */
export async function readOrders(file: string, limit: number): Promise<InvoiceOrder[]> {
  const invoices = new Map<string, Invoice>()
  try {
    // A pipeline hands an error of either end on; piped by hand, one of the file would end the process.
    await pipeline(
      createReadStream(file),
      parse({ columns: true, bom: true, trim: true }),
      async (rows: AsyncIterable<Row>) => {
        for await (const row of rows) addLine(invoices, row, file, limit)
      },
    )
  } catch (error) {
    if (error instanceof CsvError)
      throw new StranglerError('invalid_argument', `${file}: ${error.message}`, error)
    throw asStranglerError(error, 'invalid_argument')
  }
  return [...invoices].map(([invoice, seen]) => ({
    invoice,
    customer: seen.customer,
    quantity: Math.max(1, seen.quantity),
    comment: `invoice ${invoice}, ${seen.lines} lines, ${seen.country}`,
  }))
}

function addLine(invoices: Map<string, Invoice>, row: Row, file: string, limit: number): void {
  for (const column of ['InvoiceNo', 'Quantity', 'CustomerID']) {
    if (row[column] === undefined)
      throw new StranglerError(
        'invalid_argument',
        `${file}: expected a column ${column}, got ${Object.keys(row).join(', ')}`,
      )
  }
  const invoice = row['InvoiceNo']!
  if (invoice === '' || /^c/i.test(invoice)) return
  const known = invoices.get(invoice)
  const quantity = Math.max(0, Math.trunc(Number(row['Quantity'])) || 0)
  if (known !== undefined) {
    known.quantity += quantity
    known.lines += 1
    return
  }
  if (invoices.size >= limit) return
  const customer = row['CustomerID']!.replace(/\.0$/, '')
  invoices.set(invoice, {
    customer: customer === '' ? undefined : customer,
    quantity,
    lines: 1,
    country: row['Country'] ?? '',
  })
}

/** Orders for a demo without a file: every fourth is a guest's, the others belong to a few regular clients. */
export function sampleOrders(count: number): InvoiceOrder[] {
  return Array.from({ length: count }, (_, n) => ({
    invoice: String(536_000 + n),
    customer: n % 4 === 3 ? undefined : String(17_000 + (n % 11)),
    quantity: 1 + ((n * 7) % 12),
    comment: `sample order ${n + 1}`,
  }))
}
