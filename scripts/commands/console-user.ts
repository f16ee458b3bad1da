import { text as textOf } from 'node:stream/consumers'

import { generatePassword } from '../../console/password.ts'
import { addUser, changeUser, listUsers, userName } from '../../console/users.ts'
import type { ConsoleUser, Role } from '../../console/users.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { columns } from '../command-line/columns.ts'
import type { Command, Invocation, Outcome } from '../command-line/command.ts'
import { identity } from '../command-line/identity.ts'

const verbs = ['add', 'list', 'password', 'role', 'disable', 'enable'] as const
type Verb = (typeof verbs)[number]

export const consoleUser: Command = {
  name: 'console-user',
  summary: 'who may log in at the console: add, list, password, role, disable, enable',
  operands: ['<verb>', '[name]'],
  options: {
    role: {
      type: 'string',
      says: 'with add and role: reader (sees everything) or operator (may act)',
    },
    'password-stdin': {
      type: 'boolean',
      says: 'with add and password: read it from stdin; without, one is made and printed once',
    },
    who: { type: 'string', value: 'name', says: 'recorded; default: user@host' },
  },
  settings: ['LEDGER_URL'],
  exits: { 2: 'refused: no such person, a name that is taken, or a password that is too short' },
  example: 'strangler console-user add ann --role operator',
  async run(invocation) {
    const [given, name] = invocation.positionals
    const verb = verbs.find((each) => each === given)
    if (verb === undefined) refuse(`expected ${verbs.join(', ')}, got ${given}`)
    if (verb === 'list') {
      if (name !== undefined) refuse(`list takes no name, got ${name}`)
      const users = await listUsers(invocation.connections.ledger())
      return { exitCode: 0, json: { users }, text: table(users) }
    }
    if (name === undefined) refuse(`${verb} expected a name, got nothing`)
    return change(invocation, verb, userName(name))
  },
}

async function change(
  invocation: Invocation,
  verb: Exclude<Verb, 'list'>,
  name: string,
): Promise<Outcome> {
  const { text, flag, connections } = invocation
  const takesPassword = verb === 'add' || verb === 'password'
  if (text('role') !== undefined && verb !== 'add' && verb !== 'role')
    refuse('--role only goes with add and role')
  if (flag('password-stdin') && !takesPassword)
    refuse('--password-stdin only goes with add and password')
  const who = text('who') ?? identity()
  const ledger = connections.ledger()
  // A password that a person has thought of ends at the line.
  const typed = flag('password-stdin')
    ? (await textOf(process.stdin)).replace(/\r?\n$/, '')
    : undefined
  const password = takesPassword ? (typed ?? generatePassword()) : undefined
  if (verb === 'add' && password !== undefined)
    await addUser(ledger, { name, role: roleIn(text('role')), password, who })
  else
    await changeUser(
      ledger,
      name,
      {
        ...(password === undefined ? {} : { password }),
        ...(verb === 'role' ? { role: roleIn(text('role')) } : {}),
        ...(verb === 'disable' || verb === 'enable' ? { disabled: verb === 'disable' } : {}),
      },
      who,
    )
  const made = typed === undefined ? password : undefined
  const done = {
    add: `${name} may log in`,
    password: `${name} has a new password; every session of the old one is ended`,
    role: `${name} has the role ${text('role')} from now on, and logs in again`,
    disable: `${name} may not log in any more; every session is ended`,
    enable: `${name} may log in again`,
  }[verb]
  return {
    exitCode: 0,
    json: { name, verb, ...(made === undefined ? {} : { password: made }) },
    text: made === undefined ? done : `${done}\npassword, shown this once: ${made}`,
  }
}

function roleIn(given: string | undefined): Role {
  if (given === 'reader' || given === 'operator') return given
  return refuse(`--role expected to be reader or operator, got ${given ?? 'nothing'}`)
}

function refuse(detail: string): never {
  throw new StranglerError('invalid_argument', detail)
}

function table(users: readonly ConsoleUser[]): string {
  if (users.length === 0) return 'nobody yet: strangler console-user add <name> --role operator'
  return columns([
    ['name', 'role', '', 'changed'],
    ...users.map(({ name, role, disabled, changedAt }) => [
      name,
      role,
      disabled ? 'disabled' : '',
      changedAt.toISOString(),
    ]),
  ])
}
