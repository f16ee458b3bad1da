import { relative } from 'node:path'

/**
 * Two suites, each of which uses two processors for minutes: `npm test`, and `npm run matrix`, the failure matrix: what is killed,
 * cut off, filled up and frozen, storms of flips, and what the runbooks say to do.
 */
const suite = process.env['SUITE'] === 'matrix' ? 'matrix' : 'test'

/**
 * Those that take longest, in that order: they begin first, so that the processors end together and none waits half a minute
 * for a long file that came last. A file that is missing here is only begun later.
 */
const longest = [
  'test/console-browser.test.ts',
  'test/reconciler.test.ts',
  'test/repin.test.ts',
  'flags/phase-journal.test.ts',
  'test/gates.test.ts',
  'test/observability.test.ts',
  'test/parity.test.ts',
  'test/runbooks.matrix.ts',
  'test/flip-storm.matrix.ts',
  'adapters/bridge/bridge.matrix.ts',
  'adapters/bridge/bridge-flow.matrix.ts',
  'test/relay-and-courier-crashes.matrix.ts',
  'test/partner-crashes.matrix.ts',
  'test/doorbell-loss.matrix.ts',
  'test/rollback-crashes.matrix.ts',
  'test/rabbitmq-trouble.matrix.ts',
  'test/two-of-everything.matrix.ts',
  'test/broker-trouble.matrix.ts',
]

/** @param {string} file */
function rank(file) {
  const at = longest.indexOf(relative(import.meta.dirname, file))
  return at === -1 ? longest.length : at
}

// oxlint-disable-next-line import/no-default-export -- AVA asks for it
export default {
  concurrency: 2,
  extensions: ['ts'],
  files: [`**/*.${suite}.ts`],
  /** @type {(a: string, b: string) => number} */
  sortTestFiles: (a, b) => rank(a) - rank(b),
  timeout: '2m',
  workerThreads: false,
}
