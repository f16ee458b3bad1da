import { Socket } from 'node:net'

/**
 * An upstream that answers 413 in mid-upload closes, and our next write fails. Node then drops the socket with the answer still
 * unread in it. This one stops writing, and reads on until the answer or `patienceMs`.
 */
export class PatientSocket extends Socket {
  readonly #patienceMs: number
  #writeError: Error | undefined

  constructor(patienceMs: number) {
    super()
    this.#patienceMs = patienceMs
  }

  override _write(
    chunk: unknown,
    encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    // oxlint-disable-next-line no-underscore-dangle -- Node's name for it
    if (this.#writeError === undefined) super._write(chunk, encoding, this.#forgiving(done))
    else done()
  }

  override _writev(
    chunks: { chunk: unknown; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    // The typings leave open whether a stream has it; a net.Socket does.
    // oxlint-disable-next-line no-underscore-dangle -- Node's name for it
    if (this.#writeError === undefined) super._writev!(chunks, this.#forgiving(done))
    else done()
  }

  #forgiving(done: (error?: Error | null) => void): (error?: Error | null) => void {
    return (error) => {
      if (!isBrokenPipe(error) || this.destroyed) {
        done(error)
        return
      }
      this.#writeError = error
      const timer = setTimeout(() => this.destroy(error), this.#patienceMs)
      this.once('close', () => clearTimeout(timer))
      done()
    }
  }
}

function isBrokenPipe(error: Error | null | undefined): error is Error {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'EPIPE' || error.code === 'ECONNRESET')
  )
}
