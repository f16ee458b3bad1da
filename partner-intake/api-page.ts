import { partnerProblems } from '../contracts/partner-problems.ts'
import { type Html, html } from '../runtime/html.ts'
import { openapi, type Parameter, parametersOf, type Schema } from './api-contract.ts'

/** The OpenAPI document for a person: what can be called, with what, and what comes back. */
export function apiPage(): string {
  const { info, paths, components } = openapi
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, call]) => ({ path, method: method.toUpperCase(), call })),
  )
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${info.title}</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        <h1>${info.title}</h1>
        <p>${inWords(info.summary)}</p>
        ${paragraphs(info.description)}
        <p>
          Every call brings the header <code>X-Api-Key</code>.
          <a href="/openapi.yaml">openapi.yaml</a> is the contract.
        </p>
        ${calls.map(
          ({ path, method, call }) =>
            html`<section>
              <h2><code>${method} ${openapi.servers[0]!.url}${path}</code></h2>
              <p>${call.summary}</p>
              ${parametersTable(parametersOf(call))}
              ${method === 'POST' ? formTable(components.schemas['OrderForm']!) : ''}
              <p>Answers: ${Object.keys(call.responses).join(', ')}</p>
            </section>`,
        )}
        <h2>An order</h2>
        ${fieldsTable(components.schemas['Order']!)}
        <h2>Errors</h2>
        <p>
          Whatever is refused has changed nothing, but for <code>outcome_unknown</code>: then the
          same request again tells. Strict partners find the code in <code>code</code>.
        </p>
        <table>
          <tr>
            <th>Code</th>
            <th>Status</th>
            <th>Means</th>
          </tr>
          ${Object.entries(partnerProblems).map(
            ([code, { status, title }]) =>
              html`<tr id="${code}">
                <td><code>${code}</code></td>
                <td>${status}</td>
                <td>${title}</td>
              </tr>`,
          )}
        </table>
      </body>
    </html> `.text
}

const style = html`:root { font: 16px/1.5 system-ui, sans-serif; } body { max-width: 52rem; margin:
2rem auto; padding: 0 1rem; } table { border-collapse: collapse; width: 100%; } th, td { text-align:
left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #8886; vertical-align: top; } h2 {
margin-top: 2.5rem; } :target { background: #fd08; }`

function paragraphs(text: string): Html {
  return html`${text
    .trim()
    .split(/\n\s*\n/u)
    .map((each) => html`<p>${inWords(each)}</p>`)}`
}

/** What stands between backticks in the document is code. */
function inWords(text: string): Html {
  return html`${text
    .split('`')
    .map((each, at) => (at % 2 === 1 ? html`<code>${each}</code>` : html`${each}`))}`
}

/** What is said of a field, sentence by sentence. */
function saidOf(schema: Schema): Html {
  const { 'x-says': says, description, maxLength } = schema
  const longest =
    says === undefined && maxLength !== undefined ? `Up to ${maxLength} characters.` : undefined
  return inWords(
    [says === undefined ? undefined : `${says}.`, description, longest]
      .filter((each) => each !== undefined)
      .join(' '),
  )
}

function parametersTable(parameters: readonly Parameter[]): Html {
  if (parameters.length === 0) return html``
  return html`<table>
    <tr>
      <th>Parameter</th>
      <th>In</th>
      <th>Says</th>
    </tr>
    ${parameters.map(
      ({ name, in: place, description }) =>
        html`<tr>
          <td><code>${name}</code></td>
          <td>${place}</td>
          <td>${inWords(description ?? '')}</td>
        </tr>`,
    )}
  </table>`
}

function formTable(form: Schema): Html {
  return html`<h3>Parts of the form</h3>
    ${fieldsTable(form)}`
}

function fieldsTable({ properties = {}, required = [] }: Schema): Html {
  return html`<table>
    <tr>
      <th>Field</th>
      <th>Needed</th>
      <th>Says</th>
    </tr>
    ${Object.entries(properties).map(
      ([name, schema]) =>
        html`<tr>
          <td><code>${name}</code></td>
          <td>${required.includes(name) ? 'required' : ''}</td>
          <td>${saidOf(schema)}</td>
        </tr>`,
    )}
  </table>`
}
