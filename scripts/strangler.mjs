#!/usr/bin/env node
// The command `strangler`: its arguments and the caller's folder go to `strangler.ts` unchanged.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { runOnNode24 } from './node24.mjs'

const here = dirname(fileURLToPath(import.meta.url))
runOnNode24([join(here, 'strangler.ts'), ...process.argv.slice(2)])
