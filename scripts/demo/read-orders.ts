import { createReadStream } from 'node:fs'

import { parse } from 'csv-parse'

/** One invoice of the day file, as an order. */
export interface InvoiceOrder {
  readonly invoice: string
  /** Undefined = a guest. */
  readonly customer: string | undefined
  readonly quantity: number
  readonly comment: string
}

/**
 * Reads a day of UCI "Online Retail": an invoice is an order, its lines repeat the number; invoices that start with C are
 * cancellations, not orders; rows without a CustomerID are guest orders; ids are written as `17850.0`.
 * @throws Error when the file lacks one of the columns it needs
 */
export async function readOrders(file: string, limit: number): Promise<InvoiceOrder[]> {
  const invoices = new Map<
    string,
    { customer: string | undefined; quantity: number; lines: number; country: string }
  >()
  const rows = createReadStream(file).pipe(parse({ columns: true, bom: true, trim: true }))
  for await (const row of rows as AsyncIterable<Record<string, string | undefined>>) {
    for (const column of ['InvoiceNo', 'Quantity', 'CustomerID']) {
      if (row[column] === undefined)
        throw new Error(`${file}: expected a column ${column}, got ${Object.keys(row).join(', ')}`)
    }
    const invoice = row['InvoiceNo']!
    if (invoice === '' || /^c/i.test(invoice)) continue
    const known = invoices.get(invoice)
    const quantity = Math.max(0, Math.trunc(Number(row['Quantity'])) || 0)
    if (known === undefined) {
      if (invoices.size >= limit) continue
      const customer = row['CustomerID']!.replace(/\.0$/, '')
      invoices.set(invoice, {
        customer: customer === '' ? undefined : customer,
        quantity,
        lines: 1,
        country: row['Country'] ?? '',
      })
    } else {
      known.quantity += quantity
      known.lines += 1
    }
  }
  return [...invoices].map(([invoice, seen]) => ({
    invoice,
    customer: seen.customer,
    quantity: Math.max(1, seen.quantity),
    comment: `invoice ${invoice}, ${seen.lines} lines, ${seen.country}`,
  }))
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
