import { StranglerError } from '../../contracts/errors.ts'

/** The name stands in an application_name (63 bytes) and in a queue name, so it is short and plain. */
export function checkSenderName(name: string): void {
  if (!/^[\w.:-]{1,50}$/.test(name)) {
    throw new StranglerError('invalid_argument', `sender name ${JSON.stringify(name)}`)
  }
}

export function senderInUse(name: string): StranglerError {
  return new StranglerError('refused', `a sender named ${name} is still alive`)
}
