export type Environment = Readonly<Record<string, string | undefined>>

/** Reads settings and collects every mistake, so that a bad start names them all at once. */
export class Settings {
  readonly #environment: Environment
  readonly #mistakes: string[] = []

  constructor(environment: Environment) {
    this.#environment = environment
  }

  text(name: string, fallback?: string): string {
    const value = this.#environment[name] || fallback
    if (value) return value
    this.#mistakes.push(`${name} is missing`)
    return ''
  }

  url(name: string, schemes: readonly string[]): string {
    const value = this.text(name)
    const scheme = URL.canParse(value) ? new URL(value).protocol.slice(0, -1) : undefined
    if (value && !(scheme && schemes.includes(scheme))) {
      this.#mistakes.push(`${name} is not a URL of ${schemes.join(' or ')}`)
    }
    return value
  }

  databaseUrl(name: string): string {
    return this.url(name, ['postgres', 'postgresql'])
  }

  brokerUrl(name: string): string {
    return this.url(name, ['postgres', 'postgresql', 'amqp', 'amqps'])
  }

  number(name: string, fallback: number, range: { min: number; max: number }): number {
    const text = this.#environment[name]
    if (text === undefined || text === '') return fallback
    const value = Number(text)
    if (!(value >= range.min && value <= range.max)) {
      this.#mistakes.push(`${name} is not a number from ${range.min} to ${range.max}`)
    }
    return value
  }

  integer(name: string, fallback: number, range: { min: number; max: number }): number {
    const value = this.number(name, fallback, range)
    if (!Number.isInteger(value)) this.#mistakes.push(`${name} is not a whole number`)
    return value
  }

  port(name: string): number {
    return this.integer(name, 0, { min: 0, max: 65_535 })
  }

  texts(name: string): ReadonlyMap<string, string> {
    const text = this.#environment[name] || '{}'
    try {
      const value: unknown = JSON.parse(text)
      if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(text)
      const entries = Object.entries(value)
      return new Map(
        entries.map(([key, entry]): [string, string] => {
          if (typeof entry !== 'string' || key === '') throw new Error(key)
          return [key, entry]
        }),
      )
    } catch {
      this.#mistakes.push(`${name} is not a JSON object of texts`)
      return new Map()
    }
  }

  /** Call after the last setting was read. */
  check(): void {
    if (this.#mistakes.length > 0) throw new Error(`bad settings: ${this.#mistakes.join('; ')}`)
  }
}
