import { StranglerError } from '../../contracts/errors.ts'

/**
 * The address of Unleash's API without a slash at its end; the admin's and the client's part lie below it.
 * @throws StranglerError `invalid_configuration` for one that does not end in /api: it is the address of the pages
 */
export function apiAddress(url: string): string {
  const address = new URL(url)
  const path = address.pathname.replace(/\/+$/, '')
  if (!path.endsWith('/api')) {
    throw new StranglerError(
      'invalid_configuration',
      `UNLEASH_URL expected to be the address of the API, which ends in /api, got one that ends in ${path || '/'}`,
    )
  }
  return `${address.origin}${path}`
}
