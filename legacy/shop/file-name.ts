import { Refusal } from '../refusal.ts'

const refused = new Refusal(400, 'invalid_file_name', 'the file name cannot be used')

/** The name in a Content-Disposition header, or undefined without one. It is shown, never opened. */
export function fileNameOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const name = extendedName(header) ?? plainName(header)
  if (name === undefined || name === '') return undefined
  // oxlint-disable-next-line no-control-regex
  if (name.length > 255 || name.includes('..') || /[/\\\u0000-\u001f\u007f-\u009f]/u.test(name)) {
    throw refused
  }
  return name
}

function extendedName(header: string): string | undefined {
  const [, charset, encoded] = /;\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]*)/iu.exec(header) ?? []
  if (charset === undefined || encoded === undefined) return undefined
  try {
    if (charset.toLowerCase() === 'utf-8') return decodeURIComponent(encoded)
  } catch {
    throw refused
  }
  throw refused
}

function plainName(header: string): string | undefined {
  const match = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))/iu.exec(header)
  if (!match) return undefined
  // A backslash before anything but a quote is what Windows sends as a path.
  const name = match[1]?.replaceAll('\\"', '"') ?? match[2] ?? ''
  // Node reads header bytes as Latin-1; a browser or curl meant UTF-8.
  const bytes = Buffer.from(name, 'latin1')
  const utf8 = bytes.toString('utf8')
  return utf8.includes('\uFFFD') ? name : utf8
}
