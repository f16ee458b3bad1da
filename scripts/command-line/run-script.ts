import { StranglerError } from '../../contracts/errors.ts'
import { withoutSecrets } from '../../runtime/log.ts'
import { isConnectionError } from '../../runtime/postgres.ts'

/**
 * The outermost part of a script that people start by npm: what went wrong is told in a line, and with --json as a document on
 * stdout too; only what nobody expected comes with its stack. Exit code: what `main` says, 2 when it could not do its work.
 */
export async function runScript(
  name: string,
  args: readonly string[],
  main: () => Promise<number>,
): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    const { code, message, stack } = tellFailure(error)
    if (args.includes('--json'))
      process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`)
    process.stderr.write(`${name}: ${message}\n${stack}`)
    process.exitCode = 2
  }
}

function tellFailure(error: unknown): { code: string; message: string; stack: string } {
  const message = withoutSecrets(error instanceof Error ? error.message : String(error))
  if (error instanceof StranglerError) {
    const hint = error.code === 'invalid_argument' ? '; --help tells more' : ''
    return { code: error.code, message: `${message}${hint}`, stack: '' }
  }
  if (isConnectionError(error)) {
    const says = message === '' && error instanceof Error && 'code' in error ? error.code : message
    return { code: 'unavailable', message: `a server does not answer: ${String(says)}`, stack: '' }
  }
  const stack = error instanceof Error ? withoutSecrets(error.stack ?? '') : ''
  return { code: 'unexpected', message, stack: stack === '' ? '' : `${stack}\n` }
}
