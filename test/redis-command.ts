import { connect } from 'node:net'

/** One command to a Redis over its own protocol (RESP2); rejects on an error reply. For tests that play the operator of the server. */
export function redisCommand(url: string, ...words: string[]): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname)
    socket.once('error', reject)
    socket.once('data', (answer) => {
      socket.destroy()
      const line = answer.toString('utf8').split('\r\n')[0]!
      if (line.startsWith('-')) reject(new Error(line))
      else resolve(line)
    })
    socket.write(
      `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`,
    )
  })
}
