import { spawn } from 'node:child_process'

import { withoutSecrets } from '../runtime/log.ts'

export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. Rejects when it ends with another code than 0, unless any code will do. */
export function run(
  command: string,
  args: string[],
  environment: Record<string, string>,
  anyCode = false,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0 || (anyCode && code !== null)) resolve({ code: code ?? 1, stdout, stderr })
      else {
        const says = `${args.join(' ')} ended with ${code ?? signal}:\n${stderr}`
        reject(new Error(withoutSecrets(says)))
      }
    })
  })
}
