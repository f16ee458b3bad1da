export const workSteps = {
  take: { from: 'MANUFACTURING_APPROVED', to: 'MANUFACTURING_STARTED', label: 'Take' },
  complete: { from: 'MANUFACTURING_STARTED', to: 'MANUFACTURING_COMPLETED', label: 'Complete' },
  pack: { from: 'MANUFACTURING_COMPLETED', to: 'PACKAGING', label: 'Pack' },
  ship: { from: 'PACKAGING', to: 'SHIPPED', label: 'Ship' },
} as const

export type WorkStep = keyof typeof workSteps

export const workStepNames = ['take', 'complete', 'pack', 'ship'] as const
