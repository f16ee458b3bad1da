import { isIP } from 'node:net'

import { parseShare, wholeShare } from '../contracts/path-share.ts'
import type { Reader } from '../runtime/config.ts'

export const ipList: Reader<ReadonlySet<string>> = (given) => {
  const addresses = (given ?? '').split(',').map((each) => each.trim())
  const listed = addresses.filter((each) => each !== '')
  for (const each of listed) {
    if (isIP(each) === 0) throw new Error(`expected to be a list of IP addresses, got ${each}`)
  }
  return new Set(listed)
}

/** In ten-thousandths. Off unless it is asked for: it reads the models of all orders in the process that every page goes through. */
export const shadowShare: Reader<number> = (given = 'off') => {
  if (given === 'off') return 0
  const share = given === 'on' ? wholeShare : parseShare(given)
  if (share === undefined)
    throw new Error(`expected to be off, on or a share such as 10%, got ${given}`)
  return share
}
