const seam = ['api', 'partner', 'v1']

/**
 * Whether a target lies at or below `/api/partner/v1` in any reading of it: a router that ignores case, decodes, or resolves dots
 * must not take an order past the seam. What is passed on stays as it came, so a form that nobody reads so is answered as ever.
 */
export function isPartnerPath(target: string): boolean {
  const path = target.split(/[?#]/u, 1)[0]!
  const segments: string[] = []
  for (const segment of decoded(path)
    .toLowerCase()
    .split(/[/\\]+/u)) {
    const name = segment.split(';', 1)[0]!
    if (name === '..') segments.pop()
    else if (name !== '' && name !== '.') segments.push(name)
  }
  return seam.every((name, at) => segments[at] === name)
}

/** What is no valid escape stays as it is. */
function decoded(path: string): string {
  return path.replaceAll(/%[2-7][0-9a-f]/giu, (escape) =>
    String.fromCodePoint(Number.parseInt(escape.slice(1), 16)),
  )
}
