#!/usr/bin/env node
// Runs a file with Node 24, also when the `node` on PATH is older: `node scripts/node24.mjs <file> ...`
// or `... -e <code>`. Plain JavaScript, because the old Node has to run this file itself.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const projectRoot = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const modules = join(projectRoot, 'node_modules')

/**
 * Runs Node 24 with these arguments in the caller's folder; ends as the child ends.
 */
export function runOnNode24(args) {
  installWhenMissing()
  const node = findNode24()
  if (node === undefined) {
    process.stderr.write(
      `strangler: install Node 24 (24.12 or newer): this is ${process.version}, and node_modules has ` +
        `no ${packageName()}\n`,
    )
    process.exit(1)
  }

  const env = {
    ...process.env,
    PATH: [dirname(node), join(modules, '.bin'), process.env.PATH ?? ''].join(delimiter),
    // Types are stripped and code is compiled once, not by every process: that is half of what a start costs.
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(modules, '.cache', 'node-compile'),
  }
  const [command, ...rest] = endsWithUs([node, ...resolveFile(args)])
  const child = spawn(command, rest, { stdio: 'inherit', env })

  // Ctrl-C in a terminal has reached the child already: passing it on would be a second Ctrl-C.
  const inTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY)
  const handlers = ['SIGTERM', 'SIGHUP', 'SIGUSR2', 'SIGINT', 'SIGQUIT'].map((signal) => {
    const sentByTerminal = inTerminal && (signal === 'SIGINT' || signal === 'SIGQUIT')
    const handler = () => sentByTerminal || child.kill(signal)
    process.on(signal, handler)
    return { signal, handler }
  })

  child.once('error', (error) => {
    process.stderr.write(`strangler: cannot run ${command}: ${error.message}\n`)
    process.exit(1)
  })
  child.once('exit', (code, signal) => {
    for (const { signal: name, handler } of handlers) process.off(name, handler)
    if (signal === null) process.exit(code ?? 1)
    // Die of the same signal, so that whoever waits for us sees it.
    process.kill(process.pid, signal)
    // Not every signal ends Node (SIGPIPE, SIGUSR1): then the shell's way to say it.
    setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 1000)
  })
}

function installWhenMissing() {
  if (existsSync(modules)) return
  process.stderr.write('strangler: no node_modules yet, running "npm ci"\n')
  // To stderr: what the file prints is all that stands on stdout.
  const npm = spawnSync('npm', ['ci'], { cwd: projectRoot, stdio: ['ignore', 2, 2] })
  if (npm.status === 0) return
  process.stderr.write(
    `strangler: "npm ci" failed${npm.error ? ` (${npm.error.message})` : ''} in ${projectRoot}\n`,
  )
  process.exit(npm.status || 1)
}

function findNode24() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  // From 24.12 on type stripping is stable.
  if (major > 24 || (major === 24 && minor >= 12)) return process.execPath
  const packaged = join(modules, packageName(), 'bin', 'node')
  return existsSync(packaged) ? packaged : undefined
}

function packageName() {
  return `node-${process.platform}-${process.arch}`
}

/**
 * The file as the caller's folder has it, else as the project has it.
 */
function resolveFile([file, ...rest]) {
  if (file === undefined) return []
  if (file.startsWith('-') || isAbsolute(file) || existsSync(file)) return [file, ...rest]
  return [resolve(projectRoot, file), ...rest]
}

/**
 * A `kill -9` of this launcher would orphan the child: where util-linux is, the kernel then sends it
 * a SIGTERM. The pid stays the child's own.
 */
function endsWithUs(command) {
  const setpriv = '/usr/bin/setpriv'
  return existsSync(setpriv) ? [setpriv, '--pdeathsig', 'TERM', '--', ...command] : command
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  runOnNode24(process.argv.slice(2))
}
