import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, mkdirSync, copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import test from 'ava'

import { isRunning } from '../estate/process-table.ts'
import { goneFromTable } from '../estate/process-tree.ts'
import { findExecutable } from '../runtime/find-executable.ts'

const launcher = fileURLToPath(new URL('node24.mjs', import.meta.url))

/** The machine's own Node, which may be older than 24: this process has 24 first on PATH. */
const machinesNode = findExecutableBeside(process.execPath) ?? process.execPath
const version = spawnSync(machinesNode, ['--version'], { encoding: 'utf8' }).stdout.trim()

function findExecutableBeside(ours: string): string | undefined {
  return ['/usr/bin/node', '/usr/local/bin/node', findExecutable('node')].find(
    (node) => node !== undefined && node !== ours && spawnSync(node, ['--version']).status === 0,
  )
}

function launch(args: readonly string[], cwd = tmpdir()) {
  return spawnSync(machinesNode, [launcher, ...args], { cwd, encoding: 'utf8' })
}

test(`started by ${version} it runs Node 24, and so does every "node" below it`, (t) => {
  const code = `
    console.log(process.version)
    console.log(require('child_process').execSync('node -p process.version').toString().trim())`
  const { stdout } = launch(['-e', code])
  const [own = '', below = ''] = stdout.trim().split('\n')
  t.regex(own, /^v(2[4-9]|[3-9]\d)\./)
  t.is(below, own)
})

test('a file is looked for in the caller’s folder, then in the project; arguments are passed on', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'node24-test-'))
  writeFileSync(
    join(folder, 'mine.ts'),
    `const args: string[] = process.argv.slice(2)\nconsole.log(JSON.stringify([process.cwd(), ...args]))`,
  )
  const mine = launch(['mine.ts', '--flag', 'two words'], folder)
  t.deepEqual(JSON.parse(mine.stdout), [folder, '--flag', 'two words'])
  const project = launch(['node_modules/typescript/bin/tsc', '--version'], folder)
  t.regex(project.stdout, /^Version /)
  rmSync(folder, { recursive: true })
})

test('stdin, exit code and death by signal are passed through', (t) => {
  const echo = spawnSync(
    machinesNode,
    [launcher, '-e', 'process.stdin.pipe(process.stdout); process.exitCode = 7'],
    { input: 'a line', encoding: 'utf8' },
  )
  t.is(echo.stdout, 'a line')
  t.is(echo.status, 7)
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const died = launch([
      '-e',
      `process.kill(process.pid, '${signal}'); setInterval(() => {}, 1000)`,
    ])
    t.is(died.signal, signal)
  }
})

const waiting = `
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
    process.on(signal, () => { console.log(signal); process.exit(9) })
  }
  setInterval(() => {}, 1000)
  console.log(process.pid)`

test('signals reach the program, which ends in its own way', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    const started = spawn(machinesNode, [launcher, '-e', waiting], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.teardown(() => void started.kill('SIGKILL'))
    const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]()
    await lines.next()
    const exit = once(started, 'exit')
    started.kill(signal)
    t.is((await lines.next()).value, signal)
    t.is((await exit)[0], 9)
  }
})

test('a launcher killed by SIGKILL takes the program with it', async (t) => {
  const started = spawn(machinesNode, [launcher, '-e', waiting], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.teardown(() => void started.kill('SIGKILL'))
  const [line] = await once(createInterface({ input: started.stdout }), 'line')
  const pid = Number(line)
  t.true(isRunning(pid))
  started.kill('SIGKILL')
  await goneFromTable([pid])
  t.false(isRunning(pid))
})

const tooOld = Number(/^v(\d+)/.exec(version)?.[1]) < 24

const oldNodeTest = tooOld ? test : test.skip
oldNodeTest(
  `${tooOld ? '' : `SKIP, this machine's Node is ${version}: `}without Node 24 it says what to install`,
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'node24-test-'))
    mkdirSync(join(folder, 'node_modules'))
    mkdirSync(join(folder, 'scripts'))
    copyFileSync(launcher, join(folder, 'scripts', 'node24.mjs'))
    const { status, stderr } = spawnSync(
      machinesNode,
      [join(folder, 'scripts', 'node24.mjs'), '-p', '1'],
      { encoding: 'utf8' },
    )
    t.is(status, 1)
    t.regex(stderr, /install Node 24/)
    rmSync(folder, { recursive: true })
  },
)
