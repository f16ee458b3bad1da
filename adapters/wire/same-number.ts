/** The same number, however it is written: 12.30 is 12.3, and 12.31 is not. Exact: no digit is lost to a binary fraction. */
export function sameNumber(a: string, b: string): boolean {
  return a === b || (canonical(a) ?? a) === (canonical(b) ?? b)
}

/** Significant digits and a power of ten; undefined for what is no decimal number. */
function canonical(text: string): string | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d{1,6}))?$/i.exec(text)
  if (match === null) return undefined
  const [, sign, whole = '', fraction = '', power = '0'] = match
  const digits = `${whole}${fraction}`.replace(/^0+/, '')
  const significant = digits.replace(/0+$/, '')
  if (significant === '') return '0'
  const exponent = Number(power) - fraction.length + (digits.length - significant.length)
  return `${sign}${significant}e${exponent}`
}
