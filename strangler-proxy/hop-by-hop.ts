/** Headers of one connection, not of the message: the 17 names YARP keeps back, in lower case. */
const ofOneConnection = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-features',
  'proxy-instruction',
  'security-scheme',
  'alpn',
  'close',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'alt-svc',
])

/**
 * The names that end at this hop: the fixed ones and those the sender lists in `Connection`. A sender can't list away what
 * frames or addresses the message.
 */
export function hopByHopNames(rawHeaders: readonly string[]): ReadonlySet<string> {
  let listed: Set<string> | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() !== 'connection') continue
    for (const token of rawHeaders[at + 1]!.split(',')) {
      const name = token.trim().toLowerCase()
      if (name === '' || name === 'host' || name.startsWith('content-')) continue
      listed ??= new Set(ofOneConnection)
      listed.add(name)
    }
  }
  return listed ?? ofOneConnection
}
