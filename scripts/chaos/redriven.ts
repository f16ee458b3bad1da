/** The orders that `reconcile --redrive` had to set going again, by the kind of difference; an order counts once per kind. */
export class Redriven {
  readonly #orders = new Map<string, Set<string>>()

  /** Takes the document of one `strangler reconcile --redrive --json`; false when it is none: a source was away. */
  add(stdout: string): boolean {
    let report: unknown
    try {
      report = JSON.parse(stdout)
    } catch {
      return false
    }
    if (typeof report !== 'object' || report === null) return false
    if (!('differences' in report) || !Array.isArray(report.differences)) return false
    const differences: unknown[] = report.differences
    for (const each of differences) {
      if (typeof each !== 'object' || each === null) continue
      if (!('kind' in each && 'orderId' in each && 'redriven' in each)) continue
      // Any other outcome says why the order was left alone.
      if (each.redriven !== 'done') continue
      const kind = String(each.kind)
      const ids = this.#orders.get(kind) ?? new Set()
      this.#orders.set(kind, ids.add(String(each.orderId)))
    }
    return true
  }

  /** Such as `{lost: 3, stuck: 1}`; `lost` = the MES would never have had them. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#orders].map(([kind, ids]) => [kind, ids.size]))
  }
}
