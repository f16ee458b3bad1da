import { openFields, type ShadowReport } from '../../adapters/partners/shadow-report.ts'
import { columns } from './columns.ts'
import { differenceLines } from './difference-lines.ts'

/** What `strangler parity partner-intake` says of the proxies' shadow. */
export function shadowLines(reports: readonly ShadowReport[]): string[] {
  if (reports.length === 0)
    return ['shadow of the partner API: nothing seen; the proxy looks where PARTNER_SHADOW is set']
  const lines = [
    'shadow of the partner API, what the intake answers (ours) against the MES (theirs):',
    columns(
      [
        ['partner', 'call', 'eligible', 'compared', 'differing', '', 'dropped'],
        ...reports.map((each) => [
          each.partner,
          each.endpoint,
          String(each.eligible),
          String(each.compared),
          String(each.differing),
          each.compared === 0 ? '' : `${((100 * each.differing) / each.compared).toFixed(2)} %`,
          String(each.dropped),
        ]),
      ],
      '  ',
    ),
  ]
  for (const report of reports) {
    const { partner, endpoint } = report
    for (const field of report.fields) {
      const counted = `${partner}, ${endpoint}, ${field.field}: ${field.differences} differences`
      lines.push('', ...differenceLines(counted, field))
    }
  }
  return lines
}

/** What differs and is not accepted, in a line. */
export function openShadow(reports: readonly ShadowReport[]): string[] {
  return reports.flatMap((report) =>
    openFields(report).map(({ field }) => `${report.partner} ${report.endpoint} ${field}`),
  )
}
