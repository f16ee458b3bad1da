import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import type { Person } from './people.ts'
import { clock } from './words.ts'

const sections = [
  ['/', 'Overview'],
  ['/hops', 'Hops'],
  ['/orders', 'Orders'],
  ['/timeline', 'Timeline'],
  ['/queues', 'Queues'],
  ['/audit', 'Audit'],
] as const

interface Page {
  readonly title: string
  readonly content: Html
  readonly person?: Person | undefined
  readonly section?: (typeof sections)[number][0] | undefined
  /** The live view of this page; without it, the page is of one moment. */
  readonly live?: string
  readonly now?: Date
}

export function page({ title, content, person, section, live, now = new Date() }: Page): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="robots" content="noindex" />
        <title>${title} - strangler</title>
        <link rel="icon" href="/assets/icon.svg" type="image/svg+xml" />
        <link rel="stylesheet" href="/assets/console.css" />
        <script src="/assets/console.js" defer></script>
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <a class="brand" href="/">strangler</a>
          ${person === undefined ? html`` : navigation(person, section)}
        </header>
        <div id="connection" role="alert" hidden></div>
        <main id="main" tabindex="-1" data-events="${live ?? ''}">${content}</main>
        <p id="changes" class="unseen" aria-live="polite"></p>
        <footer>
          <p>
            All times are UTC. ${live === undefined ? 'As of' : 'Live; last change'}
            <span id="as-of">${clock(now)}</span>.
          </p>
        </footer>
      </body>
    </html> `.text
}

function navigation(person: Person, section: Page['section']): Html {
  return html`<nav aria-label="Pages">
      <ul>
        ${sections.map(([path, name]) =>
          path === section
            ? html`<li><a href="${path}" aria-current="page">${name}</a></li>`
            : html`<li><a href="${path}">${name}</a></li>`,
        )}
      </ul>
    </nav>
    <form class="person" method="post" action="/logout">
      ${csrfField(person)}
      <span>${person.name} <small>${person.role}</small></span>
      ${person.source === 'password' ? html`<button class="quiet">Sign out</button>` : html``}
    </form>`
}

export function csrfField(person: Person): Html {
  return html`<input type="hidden" name="csrf" value="${person.csrf}" />`
}
