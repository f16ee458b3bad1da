const named: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export type { Html }

type Value = Html | string | number | undefined | false | readonly Html[]

function written(value: Value): string {
  if (value instanceof Html) return value.text
  if (typeof value === 'object') return value.map(written).join('')
  if (value === false || value === undefined) return ''
  return String(value).replaceAll(/[&<>"']/gu, (character) => named[character] ?? '')
}

/**
 * A template whose values are escaped unless they are themselves made by a template; there is no other way to make one. Values
 * stand in text or in quoted attributes, never in a script, a style or an unquoted attribute.
 */
export function html(texts: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(String.raw({ raw: texts.raw }, ...values.map(written)))
}
