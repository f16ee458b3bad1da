import { isIP } from 'node:net'

import { url } from '../runtime/config.ts'
import type { Reader } from '../runtime/config.ts'

/** `http://host:port` and nothing behind it: the path is the client's. */
export const origin: Reader<string> = (given) => {
  const value = url('http')(given)
  const parsed = new URL(value)
  if (parsed.pathname !== '/' || parsed.search !== '' || parsed.username !== '') {
    throw new Error('expected to be http://host:port without a path or credentials')
  }
  return parsed.origin
}

export const ipList: Reader<ReadonlySet<string>> = (given) => {
  const addresses = (given ?? '').split(',').map((each) => each.trim())
  const listed = addresses.filter((each) => each !== '')
  for (const each of listed) {
    if (isIP(each) === 0) throw new Error(`expected to be a list of IP addresses, got ${each}`)
  }
  return new Set(listed)
}
