export interface Peer {
  /** Address of the socket, IPv4 without the IPv6 prefix. */
  readonly address: string
  readonly trusted: boolean
}

export function peerOf(remoteAddress: string | undefined, trusted: ReadonlySet<string>): Peer {
  const address = (remoteAddress ?? 'unknown').replace(/^::ffff:(?=\d+\.)/i, '')
  return { address, trusted: trusted.has(address) }
}

/** True for a header that tells who the client is: only a trusted peer may say that, and never in an underscore form. */
export function claimsClientAddress(lowerCaseName: string, peer: Peer): boolean {
  const name = lowerCaseName.replaceAll('_', '-')
  const claims =
    name === 'forwarded' ||
    name === 'x-real-ip' ||
    name === 'x-client-ip' ||
    name === 'x-cluster-client-ip' ||
    name === 'true-client-ip' ||
    name.startsWith('x-forwarded-')
  return claims && (!peer.trusted || name !== lowerCaseName)
}

/** What the upstream is told. From a trusted peer the chain is kept and the peer added to it. */
export function addForwarded(headers: Record<string, string | string[]>, peer: Peer): void {
  const host = [headers['host'] ?? ''].flat()[0]!
  const node = peer.address.includes(':') ? `"[${peer.address}]"` : peer.address
  headers['x-forwarded-for'] = appended(headers['x-forwarded-for'], peer.address)
  headers['forwarded'] = appended(headers['forwarded'], `for=${node};proto=http`)
  headers['x-real-ip'] ??= peer.address
  headers['x-forwarded-proto'] ??= 'http'
  headers['x-forwarded-host'] ??= host
}

function appended(before: string | string[] | undefined, value: string): string {
  return before === undefined ? value : [before, value].flat().join(', ')
}
