/**
 * The one start/stop contract. `start` resolves when ready or undoes itself and rejects; `stop` is complete on return.
 * Both are safe to call twice and from several callers.
 */
export interface Service {
  start(): Promise<void>
  stop(): Promise<void>
}

interface Steps {
  start(): Promise<void>
  stop(): Promise<void>
}

/** Makes a Service of two plain functions: callers share the promise in flight, and a failed start is undone. */
export function service(steps: Steps): Service {
  let starting: Promise<void> | undefined
  let stopping: Promise<void> | undefined
  const startOnce = async (): Promise<void> => {
    try {
      await steps.start()
    } catch (error) {
      starting = undefined
      try {
        await steps.stop()
      } catch (undoError) {
        throw new AggregateError([error, undoError], 'the start failed, and so did undoing it', {
          cause: undoError,
        })
      }
      throw error
    }
  }
  const stopOnce = async (): Promise<void> => {
    if (starting === undefined) return
    // A stop in the middle of a start waits for it: what was half started could not be stopped whole.
    await starting.catch(() => undefined)
    await steps.stop()
    starting = undefined
  }
  return {
    start() {
      starting ??= startOnce()
      return starting
    },
    stop() {
      stopping ??= stopOnce().finally(() => {
        stopping = undefined
      })
      return stopping
    },
  }
}

/** Several services as one: started in the given order, stopped in reverse, so the list reads from connections to intake. */
export function inOrder(services: readonly Service[]): Service {
  let running: Service[] = []
  return service({
    async start() {
      for (const each of services) {
        running.push(each)
        await each.start()
      }
    },
    async stop() {
      const errors: unknown[] = []
      for (const each of running.toReversed()) {
        await each.stop().catch((error: unknown) => errors.push(error))
      }
      running = []
      if (errors.length > 0) throw new AggregateError(errors, 'some services did not stop cleanly')
    },
  })
}
