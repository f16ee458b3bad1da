import type { FieldReport } from '../../delivery/parity-report.ts'
import { columns } from './columns.ts'

/** What differs in one field: how often, and who has accepted it, or the latest of them. */
export function differenceLines(
  counted: string,
  { differences, accepted, samples }: Pick<FieldReport, 'differences' | 'accepted' | 'samples'>,
): string[] {
  if (accepted !== undefined) {
    const { until, why, who } = accepted
    return [`${counted}, accepted until ${until.toISOString()} by ${who}: "${why}"`]
  }
  return [
    samples.length < differences ? `${counted}, the latest:` : counted,
    columns(
      [
        ['order', 'ours', 'theirs', 'found'],
        ...samples.map(({ orderId, ours, theirs, at }) => [
          orderId,
          ours ?? 'absent',
          theirs ?? 'absent',
          at.toISOString(),
        ]),
      ],
      '  ',
    ),
  ]
}
