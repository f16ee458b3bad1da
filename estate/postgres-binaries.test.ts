import { lstatSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { postgresBinaries } from './postgres-binaries.ts'
import { postgresUser } from './postgres-user.ts'
import { createPrivateDirectory } from './private-directory.ts'

test('where the user cannot run the package, a complete copy with its links is made', async (t) => {
  const home = createPrivateDirectory('test')
  const user = postgresUser()
  try {
    const copy = await postgresBinaries({ ...user, canRun: async () => false }, home.path)
    t.is(copy, join(home.path, 'native'))
    t.true(await user.canRun(join(copy, 'bin', 'postgres')))
    t.true(await user.canRun(join(copy, 'bin', 'initdb')))
    t.true(lstatSync(join(copy, 'lib', 'libpq.so.5')).isSymbolicLink())
  } finally {
    home.remove()
  }
})
