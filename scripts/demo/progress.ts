/** Progress for people, on stderr: rewritten in place on a terminal, a line per change of tenth elsewhere. */
export class Progress {
  #last = ''
  readonly #live = process.stderr.isTTY

  say(line: string): void {
    if (this.#live && this.#last !== '') process.stderr.write('\r\u001B[K')
    process.stderr.write(`${line}\n`)
    this.#last = ''
  }

  bar(label: string, done: number, total: number, note = ''): void {
    const tenths = total === 0 ? 10 : Math.floor((done / total) * 10)
    const line = `  ${label.padEnd(34)} [${'#'.repeat(tenths)}${'.'.repeat(10 - tenths)}] ${done}/${total}${note === '' ? '' : `  ${note}`}`
    if (this.#live) {
      process.stderr.write(`\r\u001B[K${line}`)
      this.#last = line
    } else {
      const key = `${label}${tenths}`
      if (key !== this.#last) process.stderr.write(`${line}\n`)
      this.#last = key
    }
  }
}
