import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

import { inheritedEnvironment } from '../runtime/config.ts'
import { endsWithParent } from '../runtime/ends-with-parent.ts'
import { type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import type { CourierBeat } from './courier-tally.ts'

interface SupervisorOptions {
  readonly file: string
  readonly args: readonly string[]
  readonly children: number
  /** A child that is silent for this long is killed: a frozen courier becomes a dead one before anyone takes over from it. */
  readonly killPeriodMs: number
  onBeat?(slot: number, beat: CourierBeat): void
  /** `silent`: it was killed for that. */
  onDeath?(slot: number, how: 'silent' | 'died' | 'stopped'): void
  readonly log: Log
}

const startMs = 20_000

interface Child {
  readonly process: ChildProcess
  lastBeat: number
  silent: boolean
  ready: boolean
  readonly exited: Promise<void>
}

/**
 * Keeps couriers alive, and makes sure that the ones which are not really are dead. Children send beats; one that
 * misses its beats (frozen, or its event loop blocked) gets SIGKILL and a successor with a new owner id. Children end by
 * themselves when the supervisor goes away. The start resolves when each child is ready or has failed once: with a server away
 * the supervisor runs and goes on trying.
 */
export function courierSupervisor(options: SupervisorOptions): Service {
  const children = new Map<number, Child>()
  let stopping = false
  let timer: NodeJS.Timeout | undefined
  let quickDeaths = 0

  const launch = (slot: number): Promise<void> =>
    new Promise((resolve) => {
      const born = performance.now()
      // Also by SIGKILL of the supervisor, and also a child that is frozen then: an orphan would hold its life lock for ever.
      const [execPath, ...execArgv] = endsWithParent([process.execPath], 'SIGKILL')
      const forked = fork(options.file, [...options.args], {
        execPath,
        execArgv,
        env: inheritedEnvironment(),
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      })
      const child: Child = {
        process: forked,
        lastBeat: performance.now(),
        silent: false,
        ready: false,
        exited: once(forked, 'exit').then(() => undefined),
      }
      children.set(slot, child)
      forked.on('message', (message: { type?: string } | CourierBeat) => {
        child.lastBeat = performance.now()
        if ('sends' in message) options.onBeat?.(slot, message)
        if (message.type === 'ready') {
          quickDeaths = 0
          child.ready = true
          options.log.info('courier_ready', { slot, pid: forked.pid })
          resolve()
        }
      })
      forked.on('error', (error) => options.log.error('courier_not_started', { slot }, error))
      forked.on('exit', (code, signal) => {
        children.delete(slot)
        options.onDeath?.(slot, stopping ? 'stopped' : child.silent ? 'silent' : 'died')
        if (stopping) {
          resolve()
          return
        }
        quickDeaths = performance.now() - born < 5000 ? quickDeaths + 1 : 0
        const pause = quickDeaths === 0 ? 0 : Math.min(5000, 100 * 2 ** quickDeaths)
        options.log.warn('courier_died', {
          slot,
          pid: forked.pid,
          code,
          signal,
          restartInMs: pause,
        })
        resolve()
        setTimeout(() => {
          if (!stopping) void launch(slot)
        }, pause)
      })
    })

  return service({
    async start() {
      stopping = false
      const period = Math.max(50, options.killPeriodMs / 4)
      let lastRound = performance.now()
      timer = setInterval(() => {
        // A supervisor that was frozen or busy itself has not heard the beats that came meanwhile: it hears them first.
        const late = performance.now() - lastRound > period * 3
        lastRound = performance.now()
        if (late) {
          for (const child of children.values()) child.lastBeat = lastRound
          return
        }
        for (const [slot, child] of children) {
          // A child that is still starting holds no order yet.
          const patience = child.ready
            ? options.killPeriodMs
            : Math.max(options.killPeriodMs, startMs)
          if (performance.now() - child.lastBeat > patience) {
            options.log.warn('courier_silent', {
              slot,
              pid: child.process.pid,
              silentMs: Math.round(performance.now() - child.lastBeat),
            })
            child.lastBeat = performance.now()
            child.silent = true
            child.process.kill('SIGKILL')
          }
        }
      }, period)
      await Promise.all(Array.from({ length: options.children }, (_, slot) => launch(slot)))
    },
    async stop() {
      stopping = true
      const last = [...children.values()]
      for (const child of last) child.process.kill('SIGTERM')
      const deadline = setTimeout(() => {
        for (const child of last) child.process.kill('SIGKILL')
      }, 15_000)
      await Promise.all(last.map((child) => child.exited))
      clearTimeout(deadline)
      clearInterval(timer)
    },
  })
}
