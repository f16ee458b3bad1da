import type { ValidateFunction } from 'ajv/dist/2020.js'

import {
  findOperation,
  openapiDocument,
  type Operation,
  type Place,
  type Validate,
  validatorsOf,
} from './openapi-document.ts'

/** A request as it was sent. */
export interface SentRequest {
  readonly method: string
  /** With its query. */
  readonly url: string
  readonly headers: Headers
  readonly body: Uint8Array<ArrayBuffer>
}

export interface GotAnswer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

export interface Exchange {
  readonly request: SentRequest
  readonly answer: GotAnswer
  /** The request breaks the document on purpose: then the answer must be a refusal. */
  readonly malformed?: boolean
}

export interface Violation {
  readonly operation: string
  readonly status: number
  readonly side: 'request' | 'response'
  /** `query page`, `header Retry-After`, `body /id`. */
  readonly where: string
  readonly what: string
}

export interface OpenapiConformance {
  readonly violations: (exchange: Exchange) => Promise<Violation[]>
  /** Of the answer alone; what the document has no operation for is not judged. */
  readonly answerViolations: (
    asked: Pick<SentRequest, 'method' | 'url'>,
    answer: GotAnswer,
  ) => Violation[]
}

export function violationLine({ operation, status, side, where, what }: Violation): string {
  return `${operation}, answered ${status}: ${side} ${where}: ${what}`
}

type Complain = (where: string, what: string) => void

/**
 * Holds exchanges against an OpenAPI 3.1 document, as a stranger would who has nothing but the document. Parameters and form fields are
 * validated as the texts that they are on the wire.
 * @param text the document, YAML or JSON
 */
export function openapiConformance(text: string): OpenapiConformance {
  const document = openapiDocument(text)
  const validate = validatorsOf(document.value)
  const ofAnswer = ({ name, operation }: Operation, answer: GotAnswer): Violation[] => {
    const found: Violation[] = []
    checkAnswer(operation, answer, validate, (where, what) =>
      found.push({ operation: name, status: answer.status, side: 'response', where, what }),
    )
    return found
  }
  return {
    async violations({ request, answer, malformed = false }) {
      const { status } = answer
      const found = findOperation(document, request)
      if (found === undefined) {
        const operation = `${request.method} ${new URL(request.url).pathname}`
        return [{ operation, status, side: 'request', where: 'path', what: 'is not described' }]
      }
      const of = { operation: found.name, status } as const
      const inRequest: Violation[] = []
      await checkRequest(document, found, request, validate, (where, what) =>
        inRequest.push({ ...of, side: 'request', where, what }),
      )
      const inAnswer = ofAnswer(found, answer)
      if (!malformed) return [...inRequest, ...inAnswer]
      if (inRequest.length === 0)
        inAnswer.push({ ...of, side: 'request', where: 'as a whole', what: 'is not malformed' })
      if (status < 400 || status > 499)
        inAnswer.push({ ...of, side: 'response', where: 'status', what: 'is no refusal' })
      return inAnswer
    },
    answerViolations(asked, answer) {
      const found = findOperation(document, asked)
      return found === undefined ? [] : ofAnswer(found, answer)
    },
  }
}

function complainOf(isValid: ValidateFunction, value: unknown, where: string, complain: Complain) {
  if (isValid(value)) return
  for (const { instancePath, message = 'is not valid', params } of isValid.errors ?? []) {
    const extra: unknown = params['additionalProperty']
    const named = typeof extra === 'string' ? ` (${extra})` : ''
    complain(`${where}${instancePath === '' ? '' : ` ${instancePath}`}`, `${message}${named}`)
  }
}

async function checkRequest(
  document: Place,
  { operation, shared, pathParameters }: Operation,
  request: SentRequest,
  validate: Validate,
  complain: Complain,
): Promise<void> {
  const query = new URL(request.url).searchParams
  const given = {
    path: (name: string) => [pathParameters.get(name) ?? []].flat().map(decoded),
    query: (name: string) => query.getAll(name),
    header: (name: string) => [request.headers.get(name) ?? []].flat(),
  }
  const described = new Set<string>()
  for (const [, parameter] of [
    ...(shared?.children() ?? []),
    ...(operation.at('parameters')?.children() ?? []),
  ]) {
    const name = parameter.text('name') ?? ''
    const place = parameter.text('in')
    if (place !== 'path' && place !== 'query' && place !== 'header') continue
    if (place === 'query') described.add(name)
    const values = given[place](name)
    const schema = parameter.at('schema')
    if (values.length === 0 && parameter.isTrue('required'))
      complain(`${place} ${name}`, 'is missing')
    if (values.length > 1) complain(`${place} ${name}`, `is there ${values.length} times`)
    if (values.length === 1 && schema !== undefined)
      complainOf(validate(schema), values[0], `${place} ${name}`, complain)
  }
  for (const name of new Set(query.keys()))
    if (!described.has(name)) complain(`query ${name}`, 'is not described')
  checkSecurity(document, operation, request.headers, complain)
  await checkBody(operation.at('requestBody'), request, validate, complain)
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Whoever meets one of the requirements is let in. */
function checkSecurity(
  document: Place,
  operation: Place,
  headers: Headers,
  complain: Complain,
): void {
  const requirements = (operation.at('security') ?? document.at('security'))?.children() ?? []
  if (requirements.length === 0) return
  const missing = requirements.map(([, requirement]) =>
    requirement
      .children()
      .map(([name]) => document.at('components')?.at('securitySchemes')?.at(name)?.text('name'))
      .filter((name) => name !== undefined && !headers.has(name)),
  )
  if (missing.every((names) => names.length > 0))
    complain(`header ${missing[0]!.join(', ')}`, 'is missing')
}

async function checkBody(
  described: Place | undefined,
  request: SentRequest,
  validate: Validate,
  complain: Complain,
): Promise<void> {
  if (described === undefined) {
    if (request.body.length > 0) complain('body', 'is not described')
    return
  }
  if (request.body.length === 0) {
    if (described.isTrue('required')) complain('body', 'is missing')
    return
  }
  const type = request.headers.get('content-type') ?? ''
  const essence = essenceOf(type)
  const schema = described.at('content')?.at(essence)?.at('schema')
  if (schema === undefined) {
    complain('content type', `${essence === '' ? 'none' : essence} is not described`)
    return
  }
  if (essence !== 'multipart/form-data') throw new Error(`bodies of ${essence} are not read here`)
  const form = await new Response(request.body, { headers: { 'content-type': type } })
    .formData()
    .catch(() => undefined)
  if (form === undefined) {
    complain('body', `can not be read as ${essence}`)
    return
  }
  const properties = schemaOf(schema).at('properties')
  const fields: Record<string, string> = {}
  for (const [name, value] of form) {
    if (Object.hasOwn(fields, name)) complain(`field ${name}`, 'is there more than once')
    const isFile = properties?.at(name)?.text('contentMediaType') !== undefined
    if (isFile !== value instanceof File)
      complain(`field ${name}`, isFile ? 'is no file' : 'is a file')
    fields[name] = typeof value === 'string' ? value : value.name
  }
  complainOf(validate(schema), fields, 'form', complain)
}

function schemaOf(schema: Place): Place {
  const elsewhere = schema.text('$ref')
  return elsewhere === undefined ? schema : schema.follow(elsewhere)
}

function checkAnswer(
  operation: Place,
  { status, headers, text }: GotAnswer,
  validate: Validate,
  complain: Complain,
): void {
  const responses = operation.at('responses')
  const response =
    responses?.at(String(status)) ??
    responses?.at(`${String(status)[0]}XX`) ??
    responses?.at('default')
  if (response === undefined) {
    complain('status', 'is not described')
    return
  }
  for (const [name, header] of response.at('headers')?.children() ?? []) {
    const value = headers.get(name)
    const schema = header.at('schema')
    if (value === null && header.isTrue('required')) complain(`header ${name}`, 'is missing')
    if (value !== null && schema !== undefined)
      complainOf(validate(schema), value, `header ${name}`, complain)
  }
  const content = response.at('content')
  if (content === undefined) {
    if (text !== '') complain('body', 'is not described')
    return
  }
  const essence = essenceOf(headers.get('content-type') ?? '')
  const schema = content.at(essence)?.at('schema')
  if (schema === undefined) {
    complain('content type', `${essence === '' ? 'none' : essence} is not described`)
    return
  }
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    complain('body', 'is no JSON')
    return
  }
  complainOf(validate(schema), body, 'body', complain)
}

function essenceOf(contentType: string): string {
  return contentType.split(';', 1)[0]!.trim().toLowerCase()
}
