import type { Command } from '../command-line/command.ts'

/** Each is loaded when it is asked for: together their libraries take half a second. */
export const catalog: Readonly<Record<string, () => Promise<Command>>> = {
  status: async () => (await import('./status.ts')).status,
  order: async () => (await import('./order.ts')).order,
  statuses: async () => (await import('./statuses.ts')).statuses,
  bottleneck: async () => (await import('./bottleneck.ts')).bottleneck,
  parity: async () => (await import('./parity.ts')).parity,
  'late-writes': async () => (await import('./late-writes.ts')).lateWrites,
  reconcile: async () => (await import('./reconcile.ts')).reconcile,
  doctor: async () => (await import('./doctor.ts')).doctor,
  advance: async () => (await import('./advance.ts')).advance,
  rollback: async () => (await import('./rollback.ts')).rollback,
  settle: async () => (await import('./settle.ts')).settle,
  bridge: async () => (await import('./bridge.ts')).bridge,
  'mes-guard': async () => (await import('./mes-guard.ts')).mesGuard,
  migrate: async () => (await import('./migrate.ts')).migrate,
}
