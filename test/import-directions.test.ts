import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

import test from 'ava'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Who may import whom. A folder that is not here may not exist: a new one is a decision. */
const directions: Readonly<Record<string, readonly string[]>> = {
  contracts: [],
  legacy: [],
  runtime: ['contracts'],
  // Its judge asks what production's checks ask.
  estate: ['contracts', 'runtime', 'delivery'],
  delivery: ['contracts', 'runtime'],
  flags: ['contracts', 'runtime'],
  adapters: ['contracts', 'runtime', 'delivery', 'flags'],
  console: ['contracts', 'runtime', 'delivery', 'flags'],
  scripts: ['contracts', 'runtime', 'delivery', 'flags', 'adapters', 'console', 'estate'],
  'strangler-proxy': ['contracts', 'runtime', 'flags'],
  'partner-intake': ['contracts', 'runtime', 'delivery'],
  test: [
    'contracts',
    'runtime',
    'delivery',
    'flags',
    'adapters',
    'strangler-proxy',
    'partner-intake',
    'scripts',
  ],
}

/** A test may build an estate, and compare with what the legacy does. */
const alsoInTests = ['estate', 'legacy', 'test', 'scripts', 'adapters', 'delivery', 'flags']

/** A package that only these folders may import, and the reason. */
const packages: Readonly<Record<string, { folders: readonly string[]; because: string }>> = {
  '@bull-board': { folders: ['delivery'], because: 'it is made of BullMQ' },
  bullmq: {
    folders: ['delivery'],
    because: 'the doorbell is an implementation detail of the delivery',
  },
  ioredis: {
    folders: ['delivery'],
    because: 'the doorbell is an implementation detail of the delivery',
  },
  amqplib: { folders: ['adapters', 'legacy'], because: 'the core knows no broker' },
  'unleash-client': { folders: ['flags'], because: 'nobody else evaluates a flag' },
  'unleash-server': {
    folders: ['estate'],
    because: 'it is an instrument of development under the AGPL, and never shipped',
  },
  'http-proxy-middleware': {
    folders: ['strangler-proxy'],
    because: 'it is the byte pump of the proxy',
  },
}
/**
 * The legacy stand-ins import nothing of ours, and the launcher runs on a Node that can't read TypeScript. `declare-amqp.ts` is
 * a program of its own, like a `main.ts`: its URL holds a password, and may not be an argument.
 */
const readsEnvironment =
  /^(runtime\/config\.ts|legacy\/(\w+\/main|broker\/declare-amqp)\.ts|scripts\/node24\.mjs)$/
/** Tests, and what only tests import. */
const ofTests = /(\.test|\.matrix|\/test-[\w-]+|-under-test)\.ts$|^test\//

interface Source {
  /** Relative to the root, with slashes. */
  readonly path: string
  readonly text: string
}

function sources(): Source[] {
  return (
    Object.keys(directions)
      .flatMap((folder) =>
        readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile() && /\.m?[jt]s$/.test(entry.name))
          .map((entry) => join(entry.parentPath, entry.name)),
      )
      .filter((file) => !file.includes(`${sep}node_modules${sep}`))
      // The examples at the end of this file break every rule.
      .filter((file) => file !== import.meta.filename)
      .map((file) => ({
        path: relative(root, file).split(sep).join('/'),
        text: readFileSync(file, 'utf8'),
      }))
  )
}

/** How a file may name another one: `from '...'`, `import '...'`, `import(...)`, `require(...)` and what createRequire gave. */
const namings = [
  /\bfrom\s*(['"])(?<name>[^'"\n]+)\1/g,
  /\bimport\s*(['"])(?<name>[^'"\n]+)\1/g,
  /\b(?:import|require|require\.resolve)\s*\(\s*(['"`])(?<name>[^'"`\n]+)\1/g,
]

function importsOf({ text }: Source): string[] {
  const code = withoutComments(text)
  return namings.flatMap((naming) =>
    [...code.matchAll(naming)].map((match) => match.groups!['name']!),
  )
}

/** It looks for a package that may not be installed for this machine, and needs only its place. */
const mayCreateRequire = 'estate/postgres-binaries.ts'

/** Loads that no reader of text can follow. */
const untraceable = [
  { pattern: /\bcreateRequire\b/, says: 'uses createRequire: import says what is needed' },
  {
    pattern: /\bimport\s*\(\s*`[^`]*\$\{/,
    says: 'imports a name put together at run time: nobody can see which',
  },
]

/** The environment, by each of its names. */
const environment = [
  /\bprocess\s*(?:\?\.|\.)\s*env\b/,
  /\bprocess\s*(?:\?\.)?\s*\[\s*['"`]env['"`]\s*\]/,
  /\{[^}]*\benv\b[^}]*\}\s*=\s*process\b(?!\s*[.[?])/,
  /\bimport\s*\{[^}]*\benv\b[^}]*\}\s*from\s*['"](?:node:)?process['"]/,
]

/** What stands in a comment is not done. A string keeps its slashes: only a line that begins as a comment is one. */
function withoutComments(text: string): string {
  return text.replaceAll(/^\s*\/\*\*?[\s\S]*?\*\//gm, '').replaceAll(/^\s*\/\/.*$/gm, '')
}

/** One line per thing that a file may not do. */
function violations(source: Source): string[] {
  const folder = source.path.split('/')[0]!
  const isTest = ofTests.test(source.path)
  const allowed = new Set([folder, ...(directions[folder] ?? []), ...(isTest ? alsoInTests : [])])
  const wrong: string[] = []
  for (const name of importsOf(source)) {
    if (name.startsWith('.')) {
      const file = relative(root, join(root, dirname(source.path), name))
        .split(sep)
        .join('/')
      const target = file.split('/')[0]!
      if (!isTest && ofTests.test(file))
        wrong.push(`${source.path} imports ${name}: it is for tests`)
      else if (!allowed.has(target))
        wrong.push(`${source.path} imports ${name}: ${folder} may not import ${target}`)
      continue
    }
    const bound = packages[name.split('/')[0]!]
    if (bound === undefined || bound.folders.includes(folder)) continue
    // A test of its own may speak to the server behind a port.
    if (isTest && ['test', 'estate'].includes(folder)) continue
    wrong.push(
      `${source.path} imports ${name}: only ${bound.folders.join(' and ')} may, ${bound.because}`,
    )
  }
  const code = withoutComments(source.text)
  const reads = environment.some((pattern) => pattern.test(code))
  if (reads && !isTest && !readsEnvironment.test(source.path)) {
    wrong.push(`${source.path} reads process.env: only runtime/config.ts may`)
  }
  if (!isTest) {
    for (const { pattern, says } of untraceable)
      if (pattern.test(code) && source.path !== mayCreateRequire)
        wrong.push(`${source.path} ${says}`)
  }
  return wrong
}

test('every folder imports only what stands below it', (t) => {
  const all = sources()
  for (const folder of Object.keys(directions)) {
    t.true(
      all.some(({ path }) => path.startsWith(`${folder}/`)),
      `${folder} is empty`,
    )
  }
  t.deepEqual(all.flatMap(violations), [])
})

test('no folder with code is unknown to this test', (t) => {
  const folders = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !/^(\.|node_modules$|coverage$)/.test(entry.name))
    .filter(({ name }) =>
      readdirSync(join(root, name), { recursive: true, encoding: 'utf8' }).some((file) =>
        file.endsWith('.ts'),
      ),
    )
    .map(({ name }) => name)
  t.true(folders.length > 0)
  t.deepEqual(
    folders.filter((name) => !(name in directions)),
    [],
  )
})

const lawless: [string, string, string][] = [
  [
    'delivery/a.ts',
    "import { x } from '../adapters/broker/port.ts'",
    'delivery may not import adapters',
  ],
  ['delivery/a.ts', "import type { x } from '../flags/phases.ts'", 'delivery may not import flags'],
  ['contracts/a.ts', "export { x } from '../runtime/log.ts'", 'contracts may not import runtime'],
  [
    'legacy/crm/a.ts',
    "import {\n  x,\n} from '../../contracts/order.ts'",
    'legacy may not import contracts',
  ],
  [
    'estate/a.ts',
    "const x = await import('../adapters/broker/port.ts')",
    'estate may not import adapters',
  ],
  [
    'strangler-proxy/a.ts',
    "import '../delivery/courier.ts'",
    'strangler-proxy may not import delivery',
  ],
  ['adapters/orders/a.ts', "import { Queue } from 'bullmq'", 'imports bullmq: only delivery may'],
  ['scripts/a.ts', "import Redis from 'ioredis'", 'imports ioredis: only delivery may'],
  ['delivery/a.ts', "import amqp from 'amqplib'", 'imports amqplib: only adapters and legacy may'],
  ['delivery/a.ts', "import { x } from 'unleash-client'", 'imports unleash-client: only flags may'],
  ['flags/a.ts', "import { start } from 'unleash-server'", 'never shipped'],
  ['adapters/a.ts', "import { x } from 'http-proxy-middleware'", 'only strangler-proxy may'],
  ['flags/a.ts', 'const x = process.env.HOME', 'reads process.env'],
  ['flags/a.ts', "const x = process['env'].HOME", 'reads process.env'],
  ['flags/a.ts', "import { env } from 'node:process'", 'reads process.env'],
  ['flags/a.ts', "import { argv, env as all } from 'process'", 'reads process.env'],
  ['flags/a.ts', 'const { env } = process', 'reads process.env'],
  ['delivery/a.ts', "import{x}from'../flags/phases.ts'", 'delivery may not import flags'],
  ['delivery/a.ts', "import{x} from '../flags/phases.ts'", 'delivery may not import flags'],
  ['delivery/a.ts', "import*as x from '../flags/phases.ts'", 'delivery may not import flags'],
  ['delivery/a.ts', "const x = require('../flags/phases.ts')", 'delivery may not import flags'],
  [
    'delivery/a.ts',
    'const x = await import(`../flags/phases.ts`)',
    'delivery may not import flags',
  ],
  ['scripts/a.ts', "const x = require('bullmq')", 'imports bullmq: only delivery may'],
  [
    'scripts/a.ts',
    "import { createRequire } from 'node:module'\nconst load = createRequire(import.meta.url)",
    'uses createRequire',
  ],
  ['scripts/a.ts', 'const x = await import(`./${name}.ts`)', 'put together at run time'],
  ['adapters/a.ts', "import { x } from './broker/test-subjects.ts'", 'it is for tests'],
  ['flags/a.ts', "import { x } from '../test/estate-databases.ts'", 'it is for tests'],
]
for (const [path, text, complaint] of lawless) {
  test(`it would see: ${path}: ${text.replaceAll('\n', ' ')}`, (t) => {
    const found = violations({ path, text })
    t.is(found.length, 1)
    t.true(found[0]!.includes(complaint), found[0])
  })
}

for (const [path, text] of [
  ['delivery/a.ts', "import { x } from '../runtime/log.ts'\nimport { Queue } from 'bullmq'"],
  ['flags/a.test.ts', "import { x } from '../estate/embedded-postgres.ts'"],
  ['legacy/crm/main.ts', 'run(process.env)'],
  ['runtime/config.ts', 'export const all = process.env'],
  ['flags/a.ts', '// process.env is not read here\nconst { env } = process.report'],
  ['delivery/a.ts', "/** import { x } from '../flags/phases.ts' */\nexport const x = 1"],
] as const) {
  test(`it lets pass: ${path}: ${text.split('\n')[0]}`, (t) => {
    t.deepEqual(violations({ path, text }), [])
  })
}
