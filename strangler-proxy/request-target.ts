/**
 * The path and query to pass on, or undefined for a form that isn't: `*`, and an absolute form that names another host.
 * The engine would put a slash before either and ask the upstream for a path nobody named.
 */
export function requestTarget(target: string, host: string | undefined): string | undefined {
  if (target.startsWith('/')) return target
  const match = /^http:\/\/([^/?#]*)([^#]*)$/i.exec(target)
  if (match === null || match[1]!.toLowerCase() !== host?.toLowerCase()) return undefined
  const rest = match[2]!
  return rest.startsWith('/') ? rest : `/${rest}`
}
