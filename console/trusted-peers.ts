import { BlockList, isIP } from 'node:net'

import type { Reader } from '../runtime/config.ts'

/** Addresses and networks of proxies of the house. */
export interface TrustedPeers {
  readonly list: BlockList
  /** As they were given. */
  readonly texts: readonly string[]
}

/** `127.0.0.1, 10.0.0.0/8, ::1`; unset: none. */
export const trustedPeers: Reader<TrustedPeers> = (given) => {
  const texts = (given ?? '').split(',').flatMap((text) => text.trim() || [])
  const list = new BlockList()
  for (const text of texts) {
    const [address = '', prefix] = text.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const bits = prefix === undefined ? undefined : Number(prefix)
    const most = family === 'ipv6' ? 128 : 32
    if (
      isIP(address) === 0 ||
      (bits !== undefined && !(Number.isInteger(bits) && bits >= 0 && bits <= most))
    )
      throw new Error(`expected to be addresses or networks such as 10.0.0.0/8, got ${text}`)
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, bits, family)
  }
  return { list, texts }
}

export function isTrustedPeer(peers: TrustedPeers, address: string | undefined): boolean {
  const plain = address?.replace(/^::ffff:(?=\d+\.)/i, '') ?? ''
  const family = isIP(plain)
  return family !== 0 && peers.list.check(plain, family === 6 ? 'ipv6' : 'ipv4')
}
