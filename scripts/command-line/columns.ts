/** Rows as aligned columns; a number-like cell stands to the right. */
export function columns(rows: readonly (readonly string[])[], indent = ''): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [index, cell] of row.entries()) {
      widths[index] = Math.max(widths[index] ?? 0, cell.length)
    }
  }
  return rows
    .map((row) => {
      const cells = row.map((cell, index) =>
        /^-?[\d.]+( (ms|s|%|\/s))?$|^-$/.test(cell)
          ? cell.padStart(widths[index]!)
          : cell.padEnd(widths[index]!),
      )
      return `${indent}${cells.join('  ')}`.trimEnd()
    })
    .join('\n')
}
