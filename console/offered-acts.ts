import { formatShare } from '../contracts/path-share.ts'
import type { PhaseView } from './phase-view.ts'
import type { Role } from './users.ts'

export const actNames = ['advance', 'approve', 'hold', 'resume', 'rollback', 'kill'] as const
export type ActName = (typeof actNames)[number]

/** A button with what it does, or why it does nothing now; the same answer guards the act itself. */
export interface OfferedAct {
  readonly name: ActName
  readonly label: string
  readonly effect: string
  /** In words; undefined: it may be pressed. */
  readonly blocked: string | undefined
  /** What an advance or approval is of. */
  readonly share: number | undefined
  /** Takes orders off the way they are on, or keeps them from it: shown apart. */
  readonly isWayBack: boolean
}

export function offeredActs(
  view: PhaseView,
  person: { readonly name: string; readonly role: Role },
): OfferedAct[] {
  const { phase, status, nextShare, orders } = view
  const { pin } = status
  const next = nextShare === undefined ? 'the next step' : formatShare(nextShare)
  const stays = `${many(orders.direct, 'order')} in flight on the direct path`
  const finish = `${stays} ${orders.direct === 1 ? 'finishes' : 'finish'} there`
  const back = {
    'orders-direct': `${finish}; new ones go to CRM`,
    'statuses-direct': `${stays} ${orders.direct === 1 ? 'keeps' : 'keep'} it until closed; new ones get their statuses through CRM`,
    'partner-intake': `${finish}; new ones are passed on to the MES`,
  }[phase.id]
  const left = {
    'orders-direct': 'what is left is handed over to CRM with a record',
    'statuses-direct': 'nothing is handed over',
    'partner-intake': 'what is left is delivered, never handed over',
  }[phase.id]
  const offer = (
    name: ActName,
    label: string,
    effect: string,
    blocked: string | undefined,
    share?: number,
  ): OfferedAct => ({
    name,
    label,
    effect,
    blocked:
      person.role === 'reader' ? 'you are signed in as a reader: an operator may do this' : blocked,
    share,
    isWayBack: name === 'rollback' || name === 'kill',
  })
  return [
    offer(
      'advance',
      `Advance to ${next}`,
      `${capital(phase.advance)}. ${plan(view)}`,
      advanceBlocked(view),
      nextShare,
    ),
    offer(
      'approve',
      `Approve ${next}`,
      `Says that you have seen the gates and agree to ${next}. It ends with the epoch, when evidence breaks, or by itself.`,
      approveBlocked(view, person.name),
      nextShare,
    ),
    offer(
      'hold',
      'Hold',
      `Stays at ${formatShare(status.share)} whatever is wished, until somebody resumes. Guards stay armed.`,
      pin === undefined ? undefined : pinned(view),
    ),
    offer(
      'resume',
      'Resume',
      'Follows the wish again, as far as the gates allow.',
      pin === undefined ? 'nothing holds the phase' : undefined,
    ),
    offer(
      'rollback',
      'Roll back',
      `${back}. Needs no gate; ${left}; then held until resumed.`,
      status.epoch === 0 && status.route === 'absent' ? 'nothing has ever moved here' : undefined,
    ),
    offer(
      'kill',
      'Kill',
      `At once, on every process: ${back}. Nothing is handed over; then held until resumed.`,
      status.share === 0 && pin?.kind === 'kill' ? pinned(view) : undefined,
    ),
  ]
}

/** Of the last day's orders, for a person knows what their day is like. */
function plan({ orders: { sampled, directAtNextStep }, nextShare }: PhaseView): string {
  if (nextShare === undefined) return 'There is no further step.'
  if (sampled === 0) return 'No order came within the last day.'
  return `Of the last day’s ${many(sampled, 'order')} ${directAtNextStep} would have gone direct.`
}

function advanceBlocked(view: PhaseView): string | undefined {
  const { status, nextShare, gates } = view
  const { pin } = status
  if (nextShare === undefined)
    return `${formatShare(status.share)} is in force: there is no further step`
  if (pin !== undefined) return `${pinned(view)}: resume first`
  // The wish may wait for approvals: that is what it is for.
  const red = gates.filter(({ gate, verdict }) => gate !== 'approval' && verdict !== 'PASS')
  const worst = red.find(({ verdict }) => verdict === 'FAIL') ?? red[0]
  if (worst === undefined) return undefined
  const others = red.length === 1 ? '' : `, and ${many(red.length - 1, 'more gate')}`
  return `gate ${worst.gate} is ${worst.verdict}: ${worst.says}${others}`
}

function approveBlocked(view: PhaseView, name: string): string | undefined {
  const { nextShare, approvals, verdict, gates } = view
  if (nextShare === undefined) return 'there is no further step'
  if (approvals.some(({ who, share }) => who === name && share === nextShare))
    return 'you have approved this step'
  const failed = gates.find((gate) => gate.verdict === 'FAIL')
  return verdict === 'FAIL' && failed !== undefined
    ? `gate ${failed.gate} is FAIL: ${failed.says}`
    : undefined
}

function pinned({ status: { pin } }: PhaseView): string {
  const word = { hold: 'held', rollback: 'rolled back', kill: 'killed' } as const
  return pin === undefined ? '' : `${word[pin.kind]} by ${pin.who}: "${pin.why}"`
}

export function many(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}
