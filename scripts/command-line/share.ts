import { StranglerError } from '../../contracts/errors.ts'
import { parseShare } from '../../contracts/path-share.ts'

/** `--share` in ten-thousandths; undefined when it was not given. */
export function readShare(given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  const share = parseShare(given)
  if (share !== undefined) return share
  throw new StranglerError(
    'invalid_argument',
    `--share expected to be from 0% to 100% in steps of 0.01%, such as 10% or 0.1, got ${given}`,
  )
}
