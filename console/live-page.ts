import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { Person } from './people.ts'

/**
 * A page that is whole without a script, and renews its parts while somebody looks: `fragments` are the parts by their id,
 * `content` puts them in their places.
 */
export interface LivePage<Model> {
  readonly title: string
  read(): Promise<Model>
  fragments(model: Model, person: Person): Readonly<Record<string, Html>>
  content(part: (id: string) => Html): Html
}

/** The page at this moment. */
export function contentOf<Model>(live: LivePage<Model>, model: Model, person: Person): Html {
  const fragments = live.fragments(model, person)
  return live.content(
    (id) => html`<div id="part-${id}" class="part">${fragments[id] ?? html``}</div>`,
  )
}
