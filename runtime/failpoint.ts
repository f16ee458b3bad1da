import { writeSync } from 'node:fs'

type Action = 'kill' | 'stop' | 'block'

interface Armed {
  readonly action: Action
  readonly milliseconds: number
  hitsLeft: number
}

const armed = new Map<string, Armed>()

/**
 * Arms named points of this process, from the setting `FAILPOINTS`: `courier.claimed=kill`, `relay.marked=stop@3`,
 * `courier.confirmed=block:40000`. `kill` is SIGKILL to itself, `stop` is SIGSTOP, `block` keeps the event loop busy for so
 * many milliseconds; `@n` waits for the n-th time. Nothing is armed in production, and then a point costs one map lookup.
 */
export function armFailpoints(setting: string | undefined): void {
  armed.clear()
  for (const part of (setting ?? '').split(',').filter((each) => each.trim() !== '')) {
    const match = /^([\w.-]+)=(kill|stop|block)(?::(\d+))?(?:@(\d+))?$/.exec(part.trim())
    if (match === null) throw new Error(`expected name=kill|stop|block[:ms][@n], got ${part}`)
    armed.set(match[1]!, {
      action: match[2] === 'kill' ? 'kill' : match[2] === 'stop' ? 'stop' : 'block',
      milliseconds: Number(match[3] ?? 0),
      hitsLeft: Number(match[4] ?? 1),
    })
  }
}

/** A place where a test may end or freeze the process. It says so on stderr first, so a test waits for that line, not for time. */
export function failpoint(name: string): void {
  if (armed.size === 0) return
  const point = armed.get(name)
  if (point === undefined || point.hitsLeft <= 0) return
  point.hitsLeft -= 1
  if (point.hitsLeft > 0) return
  writeSync(2, `failpoint ${name} ${point.action} ${process.pid}\n`)
  switch (point.action) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL')
      // SIGKILL is delivered when the kernel next schedules us; nothing of ours may run until then.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      break
    case 'stop':
      process.kill(process.pid, 'SIGSTOP')
      break
    case 'block':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, point.milliseconds)
      break
  }
}
