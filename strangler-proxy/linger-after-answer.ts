import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

const lingerMs = 2000

/**
 * For an answer that comes before the end of the request and closes the connection. Closing with bytes unread sends a reset, and
 * that makes the client's system throw the answer away; so what still comes is read, for a short time, into nothing.
 */
export function lingerAfterAnswer(request: IncomingMessage): void {
  const { socket } = request
  // Node calls this once the answer is handed to the socket.
  socket.destroySoon = () => {
    socket.end()
    if (request.complete || request.destroyed) {
      destroyOnceFlushed(socket)
      return
    }
    const timer = setTimeout(() => socket.destroy(), lingerMs)
    socket.once('close', () => clearTimeout(timer))
    request.once('end', () => destroyOnceFlushed(socket))
    request.resume()
  }
}

function destroyOnceFlushed(socket: Socket): void {
  if (socket.writableFinished) socket.destroy()
  else socket.once('finish', () => socket.destroy())
}
