import type { Agent, ClientRequest, IncomingMessage, ServerResponse } from 'node:http'

/** What happens to one attempt, told in this order. Nothing here may throw. */
export interface AttemptObserver {
  /** The attempt has a connection, which may still be connecting. Not one byte of the body was taken from the client yet. */
  onAttempt(attempt: ClientRequest): void
  /** The upstream's head is here; the body follows by itself once this returns, if the head was written. */
  onAnswer(answer: IncomingMessage): void
  /** May come more than once, and after the answer. */
  onError(error: unknown): void
}

/** The byte pump: sends a request to one origin and relays the body of the answer. The library behind can be replaced. */
export interface Upstream {
  /** The request's `url` and `headers` are sent as they stand. */
  send(
    request: IncomingMessage,
    response: ServerResponse,
    agent: Agent,
    observer: AttemptObserver,
  ): void
}
