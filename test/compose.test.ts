import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

/** Nobody runs containers here: what compose.yaml names must at least be there, and made by whoever has to make it. */
const root = join(import.meta.dirname, '..')
const compose = await readFile(join(root, 'compose.yaml'), 'utf8')
const databases = await readFile(join(root, 'estate/compose/init-databases.sh'), 'utf8')

function found(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map((match) => match[1]!))].toSorted()
}

const listed = (name: string): string[] =>
  new RegExp(`for ${name} in ([^;]+);`).exec(databases)?.[1]?.split(' ') ?? []

test('every process of ours runs in it, and every file that it runs is there', async (t) => {
  const run = found(compose, /\b([\w/-]+\.ts)\b/g)
  for (const file of run) t.true(existsSync(join(root, file)), file)
  // The estate is for one machine without containers.
  const exclude = ['node_modules', 'estate']
  const mains = await Array.fromAsync(glob('*{,/*}/main.ts', { cwd: root, exclude }))
  t.true(mains.length > 5)
  for (const main of mains) t.true(run.includes(main), `${main} has a service`)
})

test('every login and database of its URLs is made for it', (t) => {
  const logins = found(compose, /postgres:\/\/(\w+):/g).filter((name) => name !== 'postgres')
  const made = [
    ...listed('role'),
    ...listed('job').map((job) => `${job}_login`),
    ...found(databases, /CREATE ROLE (\w+) LOGIN/g),
  ]
  t.true(logins.includes('reconciler_login') && logins.includes('unleash'))
  for (const login of logins) t.true(made.includes(login), login)
  const names = found(compose, /@postgres:5432\/(\w+)/g)
  t.deepEqual(names, found(databases, /CREATE DATABASE (\w+)/g))
})

test('every volume that is mounted by name is declared', (t) => {
  const declared = found(compose.slice(compose.lastIndexOf('\nvolumes:')), /^ {2}(\w+):$/gm)
  t.deepEqual(found(compose, /^ +- (\w+):\//gm), declared)
})
