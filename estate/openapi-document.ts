import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { parse } from 'yaml'

/** @param text an OpenAPI 3.1 document, YAML or JSON */
export function openapiDocument(text: string): Place {
  return new Place('', parse(text), undefined)
}

/** A value of the document, and the JSON pointer to it; what stands elsewhere is followed. */
export class Place {
  readonly pointer: string
  readonly value: unknown
  readonly #root: Place

  constructor(pointer: string, value: unknown, root: Place | undefined) {
    this.pointer = pointer
    this.value = value
    this.#root = root ?? this
  }

  at(key: string): Place | undefined {
    const child = this.#child(key)
    if (child === undefined) return undefined
    const escaped = encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))
    const place = new Place(`${this.pointer}/${escaped}`, child, this.#root)
    // A schema keeps its $ref: the validator follows it.
    const elsewhere = key === 'schema' ? undefined : place.text('$ref')
    return elsewhere === undefined ? place : this.#root.follow(elsewhere)
  }

  follow(reference: string): Place {
    let place: Place | undefined = this.#root
    for (const key of reference.replace(/^#\//u, '').split('/'))
      place = place?.at(decodeURIComponent(key).replaceAll('~1', '/').replaceAll('~0', '~'))
    if (place === undefined) throw new Error(`the document has nothing at ${reference}`)
    return place
  }

  children(): [name: string, Place][] {
    const { value } = this
    if (typeof value !== 'object' || value === null) return []
    return Object.keys(value).map((key) => [key, this.at(key)!])
  }

  text(key: string): string | undefined {
    const child = this.#child(key)
    return typeof child === 'string' ? child : undefined
  }

  isTrue(key: string): boolean {
    return this.#child(key) === true
  }

  #child(key: string): unknown {
    const { value } = this
    const has = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    return has ? Reflect.get(value, key) : undefined
  }
}

export type Validate = (schema: Place) => ValidateFunction

export function validatorsOf(document: unknown): Validate {
  if (typeof document !== 'object' || document === null)
    throw new Error('the OpenAPI document is no object')
  // Strict: a keyword or a format that nobody knows here would check nothing.
  const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true })
  ajv.addVocabulary(['openapi', 'info', 'servers', 'security', 'paths', 'components', 'x-says'])
  ajv.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu)
  ajv.addFormat('uri-reference', (given: string) => URL.canParse(given, 'http://base.invalid'))
  ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/iu)
  ajv.addSchema(document, 'document')
  return ({ pointer }) => {
    const found = ajv.getSchema(`document#${pointer}`)
    if (found === undefined) throw new Error(`the document has no schema at ${pointer}`)
    return found
  }
}

export interface Operation {
  /** `operationId`, or method and path where it has none. */
  readonly name: string
  readonly operation: Place
  /** Of the path, which holds for all of its operations. */
  readonly shared: Place | undefined
  readonly pathParameters: ReadonlyMap<string, string>
}

export function findOperation(
  document: Place,
  { method, url }: { readonly method: string; readonly url: string },
): Operation | undefined {
  const { pathname } = new URL(url)
  for (const [, server] of document.at('servers')?.children() ?? []) {
    const { pathname: base } = new URL(server.text('url') ?? '/', url)
    const below = base.replace(/\/$/u, '')
    if (!pathname.startsWith(`${below}/`)) continue
    const found = (document.at('paths')?.children() ?? [])
      .flatMap(([template, item]) => {
        const pathParameters = matchPath(template, pathname.slice(below.length))
        return pathParameters === undefined ? [] : [{ template, item, pathParameters }]
      })
      // A path without parameters goes before one with them.
      .toSorted((a, b) => a.pathParameters.size - b.pathParameters.size)[0]
    const operation = found?.item.at(method.toLowerCase())
    if (found === undefined || operation === undefined) continue
    const { item, template, pathParameters } = found
    const name = operation.text('operationId') ?? `${method} ${template}`
    return { name, operation, shared: item.at('parameters'), pathParameters }
  }
  return undefined
}

function matchPath(template: string, path: string): Map<string, string> | undefined {
  const wanted = template.split('/')
  const given = path.split('/')
  if (wanted.length !== given.length) return undefined
  const parameters = new Map<string, string>()
  for (const [at, segment] of wanted.entries()) {
    const name = /^\{(.+)\}$/u.exec(segment)?.[1]
    if (name !== undefined && given[at] !== '') parameters.set(name, given[at]!)
    else if (segment !== given[at]) return undefined
  }
  return parameters
}
