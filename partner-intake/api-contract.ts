import { readFileSync } from 'node:fs'

import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { parse } from 'yaml'

import { Refusal } from './refusal.ts'

/** The document itself, as it is served. */
export const openapiText = readFileSync(new URL('openapi.yaml', import.meta.url), 'utf8')

export interface Schema {
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly maxLength?: number
  readonly description?: string
  readonly 'x-says'?: string
}

export interface Parameter {
  readonly name: string
  readonly in: string
  readonly description?: string
  readonly schema: Schema
}

interface Call {
  readonly summary: string
  readonly parameters?: readonly (Parameter | { readonly $ref: string })[]
  readonly responses: Readonly<Record<string, unknown>>
}

interface Document {
  readonly info: { readonly title: string; readonly summary: string; readonly description: string }
  readonly servers: readonly { readonly url: string }[]
  readonly paths: Readonly<Record<string, Readonly<Record<string, Call>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>
    readonly parameters: Readonly<Record<string, Parameter>>
    readonly responses: Readonly<Record<string, { readonly description: string }>>
  }
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own file; a test reads it as a stranger would
export const openapi = parse(openapiText) as Document

const root = 'openapi.yaml'
// A keyword of ours, `x-says`, is the sentence of the answer.
const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true })
// Lengths are counted as the MES counts them, in UTF-16 and not in characters.
ajv.removeKeyword('maxLength')
ajv.addKeyword({
  keyword: 'maxLength',
  type: 'string',
  validate: (longest: number, text: string) => text.length <= longest,
})
for (const keyword of ['x-says', 'components', 'paths', 'info', 'openapi', 'servers', 'security'])
  ajv.addKeyword(keyword)
ajv.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu)
ajv.addFormat('uri-reference', (text: string) => URL.canParse(text, 'http://base.invalid'))
ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/u)
ajv.addSchema(openapi, root)

/** Of a schema in the document, by its JSON pointer. */
export function validatorOf(pointer: string): ValidateFunction {
  const found = ajv.getSchema(`${root}#${pointer}`)
  if (found === undefined) throw new Error(`openapi.yaml has nothing at ${pointer}`)
  return found
}

const formPointer = '/components/schemas/OrderForm'
const form = openapi.components.schemas['OrderForm'] ?? {}
const validForm = validatorOf(formPointer)

/**
 * The parts of a submitted order as texts, of `model` only that it is there.
 * @throws Refusal `invalid_field`, about the first field in the document's order that is missing or wrong
 */
export function checkForm(fields: Readonly<Record<string, string>>): void {
  if (validForm(fields)) return
  const errors = validForm.errors ?? []
  for (const name of [...(form.required ?? []), ...Object.keys(form.properties ?? {})]) {
    const ofField = errors.filter((error) => fieldOf(error) === name)
    if (ofField.length === 0) continue
    throw new Refusal('invalid_field', sentence(name, form.properties?.[name] ?? {}, ofField), {
      pointer: `#/${name}`,
    })
  }
  throw new Error(`openapi.yaml refuses a form without saying where: ${ajv.errorsText(errors)}`)
}

function fieldOf(error: ErrorObject): string {
  return error.keyword === 'required'
    ? String(error.params['missingProperty'])
    : error.instancePath.slice(1)
}

function sentence(name: string, schema: Schema, errors: readonly ErrorObject[]): string {
  const keywords = new Set(errors.map(({ keyword }) => keyword))
  if (keywords.has('required') || keywords.has('minLength')) return `${name} is missing`
  if (keywords.has('maxLength')) return `${name} is longer than ${schema.maxLength} characters`
  return schema['x-says'] ?? `${name} is not valid`
}

/** The parameters of a call, those that are said elsewhere in the document as well. */
export function parametersOf({ parameters = [] }: Call): Parameter[] {
  return parameters.map((parameter) => {
    if (!('$ref' in parameter)) return parameter
    const name = parameter.$ref.slice(parameter.$ref.lastIndexOf('/') + 1)
    const found = openapi.components.parameters[name]
    if (found === undefined) throw new Error(`openapi.yaml has no parameter ${name}`)
    return found
  })
}

const listParameters = parametersOf(openapi.paths['/orders']!['get']!).map((parameter, index) => ({
  ...parameter,
  isValid: validatorOf(`/paths/~1orders/get/parameters/${index}/schema`),
}))

/**
 * What the list is asked for; `page` is judged before `status`, as at the MES.
 * @throws Refusal `invalid_field`
 */
export function checkListQuery(query: Readonly<Record<string, unknown>>): {
  readonly status: string | undefined
  readonly page: number
} {
  for (const { name, schema, isValid } of listParameters.toReversed()) {
    const given = query[name]
    if (given === undefined || isValid(given)) continue
    throw new Refusal('invalid_field', schema['x-says'] ?? `${name} is not valid`, {
      pointer: `#/parameters/${name}`,
    })
  }
  const { status, page } = query
  return {
    status: typeof status === 'string' && status !== '' ? status : undefined,
    page: typeof page === 'string' && page !== '' ? Number(page) : 1,
  }
}

const keyParameter = openapi.components.parameters['IdempotencyKey']
const isValidKey = validatorOf('/components/parameters/IdempotencyKey/schema')

/** @throws Refusal `idempotency_key_invalid` */
export function checkIdempotencyKey(key: string): void {
  if (isValidKey(key)) return
  throw new Refusal('idempotency_key_invalid', keyParameter?.schema['x-says'] ?? 'not valid', {
    pointer: '#/parameters/Idempotency-Key',
  })
}
