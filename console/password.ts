import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import type { ScryptOptions } from 'node:crypto'

// 32 MB and about 0.2 s each (OWASP's choice for this memory); in the hash, so that a later choice leaves old ones readable.
const cost = { N: 32_768, r: 8, p: 3 }
const maximumLength = 256
export const minimumLength = 12

/** `scrypt:N:r:p:salt:key`, the last two in base64. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16)
  const key = await derive(password, salt, cost)
  return `scrypt:${cost.N}:${cost.r}:${cost.p}:${salt.toString('base64')}:${key.toString('base64')}`
}

/** Takes the same time whether there is a hash or not, so that nobody learns from it who exists. */
export async function isPassword(password: string, hash: string | undefined): Promise<boolean> {
  const [, N, r, p, salt, key] = (hash ?? nobody).split(':')
  const expected = Buffer.from(key ?? '', 'base64')
  const options = { N: Number(N), r: Number(r), p: Number(p) }
  const found = await derive(
    password.slice(0, maximumLength),
    Buffer.from(salt ?? '', 'base64'),
    options,
  )
  const same = found.length === expected.length && timingSafeEqual(found, expected)
  return same && hash !== undefined && password.length <= maximumLength
}

/** What is wrong with it as a new password; undefined: nothing. */
export function passwordProblem(password: string): string | undefined {
  if (password.length < minimumLength) return `it has fewer than ${minimumLength} characters`
  if (password.length > maximumLength) return `it has more than ${maximumLength} characters`
  return /\p{Cc}/u.test(password) ? 'it has a control character' : undefined
}

/** 120 bits, in letters that nobody takes for one another. */
export function generatePassword(): string {
  const letters = 'abcdefghjkmnpqrstuvwxyz23456789-'
  const all = [...randomBytes(24)].map((byte) => letters[byte % letters.length]!)
  return all.join('')
}

const nobody = `scrypt:${cost.N}:${cost.r}:${cost.p}:${Buffer.alloc(16).toString('base64')}:${Buffer.alloc(32).toString('base64')}`

function derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const memory = { maxmem: 256 * 1024 * 1024, ...options }
    scrypt(password.normalize('NFKC'), salt, 32, memory, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}
