import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A binary STL of a torus with the given number of triangles, rounded down to whole quads: 80 bytes, a count, 50 bytes each. */
export function torusStl(triangles: number): Buffer {
  const steps = Math.max(3, Math.floor(Math.sqrt(triangles / 2)))
  const count = steps * steps * 2
  const stl = Buffer.alloc(84 + count * 50)
  stl.write('sample torus', 0, 'latin1')
  stl.writeUInt32LE(count, 80)
  const point = (u: number, v: number): [number, number, number] => {
    const [a, b] = [(u / steps) * 2 * Math.PI, (v / steps) * 2 * Math.PI]
    return [
      (20 + 5 * Math.cos(b)) * Math.cos(a),
      (20 + 5 * Math.cos(b)) * Math.sin(a),
      5 * Math.sin(b),
    ]
  }
  let at = 84
  const triangle = (...corners: [number, number, number][]): void => {
    at += 12
    for (const corner of corners) for (const value of corner) at = stl.writeFloatLE(value, at)
    at += 2
  }
  for (let u = 0; u < steps; u += 1) {
    for (let v = 0; v < steps; v += 1) {
      triangle(point(u, v), point(u + 1, v), point(u + 1, v + 1))
      triangle(point(u, v), point(u + 1, v + 1), point(u, v + 1))
    }
  }
  return stl
}

/** Models for a demo without models of one's own; returns their files. */
export async function writeSampleModels(directory: string): Promise<string[]> {
  await mkdir(directory, { recursive: true })
  const files: string[] = []
  for (const [name, triangles] of [
    ['ring', 400],
    ['flange', 2000],
    ['кольцо', 5000],
    ['gear', 12_000],
  ] as const) {
    const file = join(directory, `${name}.stl`)
    await writeFile(file, torusStl(triangles))
    files.push(file)
  }
  return files
}
