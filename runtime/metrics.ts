/** Every label with all the values it may have. Any other value is counted as `other`, so that the number of series is known. */
export type Labels = Readonly<Record<string, readonly string[]>>

export type Values<Of extends Labels> = Readonly<Record<keyof Of & string, string>>

export interface Sample<Of extends Labels> {
  readonly labels: Values<Of>
  readonly value: number
}

export interface Definition<Of extends Labels> {
  /** `strangler_...`; a counter ends in `_total`, and what has a unit ends in it. */
  readonly name: string
  readonly help: string
  readonly labels: Of
}

export interface Count<Of extends Labels> {
  add(labels: Values<Of>, by?: number): void
}

export interface Timing<Of extends Labels> {
  observe(labels: Values<Of>, seconds: number): void
}

/** What one process tells Prometheus. Never an id, an address or a text of somebody's as a label: `Labels` are closed lists. */
export interface Metrics {
  counter<const Of extends Labels>(definition: Definition<Of>): Count<Of>
  timing<const Of extends Labels>(
    definition: Definition<Of>,
    bucketSeconds: readonly number[],
  ): Timing<Of>
  /** A counter that is kept elsewhere and only read here, at each scrape. */
  counted<const Of extends Labels>(
    definition: Definition<Of>,
    read: () => readonly Sample<Of>[],
  ): void
  /** What is so now, read at each scrape. A series that is not read any more is gone, not stale. */
  gauge<const Of extends Labels>(
    definition: Definition<Of>,
    read: () => readonly Sample<Of>[] | Promise<readonly Sample<Of>[]>,
  ): void
}

/** Of a process that nobody scrapes. */
export const noMetrics: Metrics = {
  counter: () => ({ add: () => undefined }),
  timing: () => ({ observe: () => undefined }),
  counted: () => undefined,
  gauge: () => undefined,
}

/** All combinations of the values of these labels. */
export function seriesOf<Of extends Labels>(labels: Of): Values<Of>[] {
  let series: Record<string, string>[] = [{}]
  for (const [name, values] of Object.entries(labels))
    series = series.flatMap((each) => values.map((value) => ({ ...each, [name]: value })))
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each has every label
  return series as Values<Of>[]
}
