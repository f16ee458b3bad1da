import { createHash } from 'node:crypto'

/** Shares are whole ten-thousandths: 10 % = 1 000. */
export const wholeShare = 10_000

/**
 * The bucket 0..9999 of an order. The same function stands as `strangler.bucket` in the Shop DB, so every seam agrees,
 * and a higher share only adds orders: an order is direct exactly when its bucket is below the share.
 */
export function bucketOf(orderKey: string, seed: number): number {
  return (
    createHash('sha256').update(`${seed}:${orderKey}`, 'utf8').digest().readUInt32BE(0) % wholeShare
  )
}

/** `10%`, `2.5%` or `0.1` (a fraction) to ten-thousandths; undefined when it is none of these or finer than 0.01 %. */
export function parseShare(text: string): number | undefined {
  const match = /^(\d{1,3}(?:\.\d{1,4})?)(%?)$/.exec(text.trim())
  if (match === null) return undefined
  const share = Number(match[1]) * (match[2] === '%' ? 100 : wholeShare)
  const rounded = Math.round(share)
  return Math.abs(share - rounded) < 1e-6 && rounded >= 0 && rounded <= wholeShare
    ? rounded
    : undefined
}

export function formatShare(share: number): string {
  return `${share / 100} %`
}
