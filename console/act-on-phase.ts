import type { Request, Response } from 'express'

import { StranglerError } from '../contracts/errors.ts'
import { acceptDifference, differingFields } from '../delivery/parity-report.ts'
import { findPhase } from '../flags/phases.ts'
import { noteEvent } from '../flags/timeline.ts'
import { bodyOf } from './guard.ts'
import { actNames, offeredActs } from './offered-acts.ts'
import type { ActName } from './offered-acts.ts'
import { personOf } from './people.ts'
import type { PhaseActs } from './phase-acts.ts'
import { readPhaseView } from './phase-view.ts'
import type { ConsoleDatabases, PhaseView } from './phase-view.ts'
import { Refusal } from './refusal.ts'

/**
 * Does what a button says, if the same look at the phase that made the button still allows it. What is refused or fails is noted;
 * what is done, the act itself notes.
 */
export function actOnPhase(databases: ConsoleDatabases, acts: PhaseActs) {
  return async (request: Request, response: Response): Promise<void> => {
    const phase = findPhase(String(request.params['phase']))
    const name = actNames.find((each) => each === request.params['act'])
    if (name === undefined)
      throw new StranglerError('not_found', `there is no act ${String(request.params['act'])}`)
    const person = personOf(request)
    try {
      const { why, share } = await check(databases, request, phase, name)
      await perform(acts, phase.id, name, person.name, why, share)
    } catch (error) {
      const reason =
        error instanceof Refusal
          ? error.says
          : error instanceof StranglerError
            ? error.message
            : 'it failed'
      await noteEvent(databases.ledger, {
        phase: phase.id,
        kind: name === 'approve' ? 'approval' : name,
        who: person.name,
        says: `${name} was not done: ${reason}`,
      })
      throw error
    }
    response.redirect(303, `/phases/${phase.id}?did=${name}`)
  }
}

async function check(
  databases: ConsoleDatabases,
  request: Request,
  phase: PhaseView['phase'],
  name: ActName,
): Promise<{ why: string; share: number | undefined }> {
  const person = personOf(request)
  const body = bodyOf(request)
  const why = reasonIn(body['why'])
  const view = await readPhaseView(databases, phase)
  const offered = offeredActs(view, person).find((each) => each.name === name)
  const seen = `${body['epoch'] ?? ''} ${body['share'] ?? ''}`
  const now = `${view.status.epoch} ${offered?.share ?? ''}`
  // A way back is never refused because somebody else was quicker.
  if (seen !== now && offered?.isWayBack !== true)
    throw new Refusal(
      409,
      'The phase has moved meanwhile',
      `You looked at epoch ${body['epoch'] ?? 'none'}, now it is ${view.status.epoch}. Open ${phase.id} again and press if you still want to.`,
    )
  if (offered?.blocked !== undefined)
    throw new Refusal(409, 'Not now', `${offered.label}: ${offered.blocked}.`)
  return { why, share: offered?.share }
}

async function perform(
  acts: PhaseActs,
  phase: PhaseView['phase']['id'],
  name: ActName,
  who: string,
  why: string,
  share: number | undefined,
): Promise<void> {
  switch (name) {
    case 'advance':
    case 'approve':
      if (share === undefined) throw new Refusal(409, 'Not now', 'There is no further step.')
      return acts[name](phase, share, who, why)
    case 'hold':
    case 'resume':
    case 'rollback':
    case 'kill':
      return acts[name](phase, who, why)
  }
}

const longestAcceptanceMs = 366 * 86_400_000

export function acceptParity({ ledger }: ConsoleDatabases) {
  return async (request: Request, response: Response): Promise<void> => {
    const phase = findPhase(String(request.params['phase']))
    const body = bodyOf(request)
    const why = reasonIn(body['why'])
    const field = body['field'] ?? ''
    if (!(await differingFields(ledger, phase.id)).includes(field))
      throw new StranglerError('not_found', `no difference in ${field} of ${phase.id}`)
    const at = new Date(`${body['until'] ?? ''}T00:00:00Z`)
    if (Number.isNaN(at.getTime()) || !/^\d{4}-\d\d-\d\d$/.test(body['until'] ?? ''))
      throw new Refusal(400, 'Until when?', 'Give the day on which it counts again.')
    if (at.getTime() > Date.now() + longestAcceptanceMs)
      throw new Refusal(
        400,
        'That is too long',
        'A difference is accepted for a year at most; then somebody looks again.',
      )
    const who = personOf(request).name
    const until = await acceptDifference(ledger, {
      phase: phase.id,
      field,
      until: { at },
      why,
      who,
    })
    if (until === undefined) throw new Refusal(400, 'That day is over', 'Give a day to come.')
    await noteEvent(ledger, {
      phase: phase.id,
      kind: 'parity',
      who,
      says: `differences in ${field} are accepted until ${until.toISOString().slice(0, 10)}: ${why}`,
      detail: { field, until: until.toISOString() },
    })
    response.redirect(303, `/parity/${phase.id}?did=accept`)
  }
}

function reasonIn(given: string | undefined): string {
  const why = (given ?? '').replaceAll(/\p{Cc}+/gu, ' ').trim()
  if (why === '')
    throw new Refusal(
      400,
      'Why?',
      'Every act needs a reason, for whoever reads the timeline later. Go back and give one.',
    )
  return why.slice(0, 500)
}
