import { setImmediate as nextTurn } from 'node:timers/promises'

const sliceMs = 20

/** Calculates for as long as the real one would: everything else in this process waits, slice by slice. */
export async function burnCpu(milliseconds: number, signal: AbortSignal): Promise<void> {
  let left = milliseconds
  while (left > 0) {
    signal.throwIfAborted()
    const begun = performance.now()
    const slice = Math.min(sliceMs, left)
    while (performance.now() - begun < slice);
    left -= slice
    await nextTurn()
  }
}
