import { Refusal } from './refusal.ts'

type Range = { readonly min: number; readonly max: number }

function refuse(field: string, expected: string): Refusal {
  return new Refusal(422, 'invalid_field', `${field} must be ${expected}`, { field })
}

/** PostgreSQL stores no NUL in a text; finding out there would be a 500. */
function isStorable(value: unknown, longest: number): value is string {
  return typeof value === 'string' && value.length <= longest && !value.includes('\u0000')
}

/** The fields of a JSON body, each checked while it is taken out. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>

  constructor(body: unknown) {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
      throw new Refusal(400, 'malformed_json', 'the body must be a JSON object')
    }
    this.#values = { ...body }
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#values, name)
  }

  text(name: string, longest: number): string {
    const value = this.#values[name]
    if (!isStorable(value, longest) || value.trim() === '') {
      throw refuse(name, `a text of 1 to ${longest} characters`)
    }
    return value
  }

  optionalText(name: string, longest: number): string | null {
    const value = this.#values[name] ?? null
    if (value === null) return null
    if (!isStorable(value, longest)) throw refuse(name, `a text of up to ${longest} characters`)
    return value
  }

  integer(name: string, { min, max }: Range): number {
    const value = this.#values[name]
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw refuse(name, `a whole number from ${min} to ${max}`)
    }
    return value
  }

  optionalInteger(name: string, range: Range): number | null {
    return (this.#values[name] ?? null) === null ? null : this.integer(name, range)
  }

  texts(name: string): string[] {
    const value = this.#values[name] ?? []
    if (!Array.isArray(value) || !value.every((entry) => isStorable(entry, 100))) {
      throw refuse(name, 'a list of texts of up to 100 characters')
    }
    return value
  }

  optionalObject(name: string): string | null {
    const value = this.#values[name] ?? null
    if (value === null) return null
    const text = JSON.stringify(value)
    if (typeof value !== 'object' || Array.isArray(value) || /\\u(0000|d[89a-f])/iu.test(text)) {
      throw refuse(name, 'an object')
    }
    return text
  }
}
