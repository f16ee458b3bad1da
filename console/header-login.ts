import { StranglerError } from '../contracts/errors.ts'
import type { HeaderLogin } from './people.ts'
import type { TrustedPeers } from './trusted-peers.ts'

interface HeaderSettings {
  readonly CONSOLE_TRUST_HEADER: string | undefined
  readonly CONSOLE_HEADER_OPERATORS: string | undefined
  readonly CONSOLE_TRUSTED_PROXIES: TrustedPeers
}

/**
 * Undefined: people log in here. Otherwise every word of the header counts, so it must be said whose.
 * @throws StranglerError `invalid_configuration`
 */
export function headerLoginOf(settings: HeaderSettings): HeaderLogin | undefined {
  const {
    CONSOLE_TRUST_HEADER: given,
    CONSOLE_HEADER_OPERATORS: operators,
    CONSOLE_TRUSTED_PROXIES: peers,
  } = settings
  if (given === undefined) {
    if (operators !== undefined) refuse('CONSOLE_HEADER_OPERATORS goes with CONSOLE_TRUST_HEADER')
    return undefined
  }
  const header = given.toLowerCase()
  if (!/^[a-z0-9-]+$/.test(header))
    refuse(`CONSOLE_TRUST_HEADER expected to be the name of a header, got ${given}`)
  if (peers.texts.length === 0)
    refuse(
      'CONSOLE_TRUSTED_PROXIES expected to name the proxies whose CONSOLE_TRUST_HEADER counts, got nothing',
    )
  const names = (operators ?? '').split(',').flatMap((name) => name.trim() || [])
  return { header, operators: new Set(names), peers }
}

function refuse(detail: string): never {
  throw new StranglerError('invalid_configuration', detail)
}
