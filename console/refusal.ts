/** An answer that is not what was asked for, in words for the person who asked. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly status: number
  readonly title: string
  readonly says: string

  constructor(status: number, title: string, says: string, cause?: unknown) {
    super(`${title}: ${says}`, cause === undefined ? undefined : { cause })
    this.status = status
    this.title = title
    this.says = says
  }
}
