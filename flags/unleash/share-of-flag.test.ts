import test from 'ava'

import { readToldFlag, shareOfFlag } from './share-of-flag.ts'

const plain = { name: 'flexibleRollout', parameters: { rollout: '25' }, constraints: [] }
const constraint = { contextName: 'userId', operator: 'IN', values: ['1'] }

const shares: readonly [string, object, number][] = [
  [
    'off is 0, whatever stands behind the switch',
    { enabled: false, strategies: [plain, plain] },
    0,
  ],
  ['off without a strategy', { enabled: false, strategies: [] }, 0],
  ['a rollout', { enabled: true, strategies: [plain] }, 2500],
  ['0 %', { enabled: true, strategies: [{ ...plain, parameters: { rollout: '0' } }] }, 0],
  ['100 %', { enabled: true, strategies: [{ ...plain, parameters: { rollout: '100' } }] }, 10_000],
  ['a number', { enabled: true, strategies: [{ ...plain, parameters: { rollout: 7 } }] }, 700],
  ['the default strategy', { enabled: true, strategies: [{ name: 'default' }] }, 10_000],
  [
    'variants of its own, which change no share',
    { enabled: true, strategies: [{ ...plain, variants: [{ name: 'a' }], segments: [] }] },
    2500,
  ],
]
for (const [what, told, share] of shares) {
  test(`a share: ${what}`, (t) => {
    t.deepEqual(shareOfFlag(readToldFlag(told)!), { state: 'known', share })
  })
}

const on = (...strategies: object[]): object => ({ enabled: true, strategies })
const noShares: readonly [string, object, RegExp][] = [
  ['no strategy', on(), /without a strategy/],
  ['no list of strategies', { enabled: true }, /without a strategy/],
  ['two', on(plain, { name: 'default' }), /2 strategies/],
  ['constraints', on({ ...plain, constraints: [constraint] }), /constraints/],
  ['constraints of the default', on({ name: 'default', constraints: [constraint] }), /constraints/],
  ['segments', on({ ...plain, segments: [3] }), /segments/],
  ['another kind', on({ name: 'userWithId', parameters: { userIds: '1' } }), /userWithId/],
  ['a kind of somebody', on({ name: 'our-own' }), /our-own/],
  ['a parent', { ...on(plain), dependencies: [{ feature: 'parent' }] }, /another flag \(parent\)/],
  ...['', '10.5', '101', '-1', '1e1', 'ten', ' 10', null, undefined, [10], 10.5, Number.NaN].map(
    (rollout): [string, object, RegExp] => [
      `rollout ${typeof rollout} "${String(rollout)}"`,
      on({ ...plain, parameters: { rollout } }),
      /no whole percent/,
    ],
  ),
]
for (const [what, told, reason] of noShares) {
  test(`no share: ${what}`, (t) => {
    const found = shareOfFlag(readToldFlag(told)!)
    t.is(found.state, 'unknown')
    t.regex(found.state === 'unknown' ? found.reason : '', reason)
  })
}

test('what has not the form of a flag is none', (t) => {
  for (const told of [
    undefined,
    null,
    'on',
    [],
    {},
    { enabled: 'true', strategies: [] },
    { enabled: true, strategies: [null] },
    { enabled: true, strategies: [{}] },
  ]) {
    t.is(readToldFlag(told), undefined, JSON.stringify(told))
  }
})
