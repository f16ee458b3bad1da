import { html, type Html } from './page.ts'

export type Paging = { readonly page: number; readonly pages: number; readonly total: number }

export function pagingOf(page: number, total: number, size: number): Paging {
  return { page, total, pages: Math.max(1, Math.ceil(total / size)) }
}

/** Undefined for anything but a positive whole number that a query can still multiply. */
export function pageNumber(value: unknown): number | undefined {
  if (value === undefined || value === '') return 1
  return typeof value === 'string' && /^[1-9]\d{0,6}$/u.test(value) ? Number(value) : undefined
}

export function pageLinks(path: string, status: string, { page, pages, total }: Paging): Html {
  const link = (to: number, text: string) => {
    const query = new URLSearchParams({ ...(status ? { status } : {}), page: String(to) })
    return html`<a href="${`${path}?${query.toString()}`}">${text}</a>`
  }
  return html`<nav class="pages" aria-label="Pages">
    ${page > 1 ? link(page - 1, 'Newer') : ''}
    <span>Page ${page} of ${pages}, ${total} in all</span>
    ${page < pages ? link(page + 1, 'Older') : ''}
  </nav>`
}
