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

type Value = Html | string | number | null | undefined | readonly Html[]

function written(value: Value): string {
  if (value instanceof Html) return value.text
  if (typeof value === 'object' && value !== null) return value.map(written).join('')
  return String(value ?? '').replaceAll(/[&<>"']/gu, (character) => named[character] ?? '')
}

/** A template whose values are escaped unless they are themselves the result of a template. */
export function html(texts: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(String.raw({ raw: texts }, ...values.map(written)))
}

const style = new Html(`<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: light-dark(#0b5fa5, #7cbcf5) }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; border-bottom: 1px solid var(--line) }
h1 { font-size: 1.4rem; margin: .3rem 0 } h2 { font-size: 1.1rem }
a { color: var(--accent) }
label { display: block; margin: .7rem 0 }
input, select, textarea, button { font: inherit; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: .4rem; max-width: 100% }
label > input, label > select, label > textarea { display: block; width: 24rem }
button { background: var(--accent); color: Canvas; border-color: transparent; cursor: pointer }
button:disabled { opacity: .5; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
form.row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end } form.row label { margin: 0 } form.row input, form.row select { width: auto }
.orders { list-style: none; padding: 0 } .orders > li { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; justify-content: space-between; padding: .7rem .2rem; border-bottom: 1px solid var(--line) }
.orders p { margin: 0; overflow-wrap: anywhere } .soft { opacity: .75; font-size: .9rem }
.status { font-size: .85rem; font-weight: 600; background: var(--soft); border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .6rem; white-space: nowrap }
.ladder { list-style: none; padding: 0 } .ladder li { padding: .25rem .6rem; border-left: .25rem solid var(--line); opacity: .6 }
.ladder .done { border-color: var(--accent); opacity: 1 } .ladder [aria-current] { font-weight: 700; background: var(--soft) }
nav.pages { display: flex; gap: 1rem; margin: 1rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
.problem { border-left: .25rem solid #c33; padding: .5rem .8rem; background: var(--soft) }
</style>`)

export function page(title: string, content: Html): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title}</title>
        ${style}
      </head>
      <body>
        ${content}
      </body>
    </html> `.text
}

/** Source of ours that goes into a page as it is: scripts only, never data. */
export function script(source: string): Html {
  return new Html(`<script>${source}</script>`)
}
