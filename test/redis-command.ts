import { connect } from 'node:net'

/** One command to a Redis over its own protocol (RESP2): a line as it comes, or a bulk string; rejects on an error reply. For tests that play the operator of the server. */
export function redisCommand(url: string, ...words: string[]): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname)
    socket.once('error', reject)
    let answer = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      answer = Buffer.concat([answer, chunk])
      const end = answer.indexOf('\r\n')
      if (end === -1) return
      const line = answer.toString('utf8', 0, end)
      // A bulk string says its length first.
      const bulk = /^\$(\d+)$/.exec(line)
      const length = Number(bulk?.[1] ?? 0)
      if (bulk !== null && answer.length < end + 2 + length) return
      socket.destroy()
      if (line.startsWith('-')) reject(new Error(line))
      else resolve(bulk === null ? line : answer.toString('utf8', end + 2, end + 2 + length))
    })
    socket.write(
      `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`,
    )
  })
}
