import type { Rate } from '../../delivery/bench/rate.ts'

/** What was measured between two things that are nearly the same. */
export interface Alternated {
  /** Of all rounds: the median of each figure. */
  readonly ours: Rate
  readonly peer: Rate
  /** Ours / peer by rate: the median with its 95 % interval. */
  readonly ratio: Interval
  /** The same of peer / ours by p50. */
  readonly p50Ratio: Interval
  /** The same of the peer against itself, the very same one: what this machine makes of no difference at all. */
  readonly noise: Interval
  readonly blocks: number
  readonly rounds: number
}

export interface Interval {
  readonly median: number
  readonly low: number
  readonly high: number
}

export interface Rounds {
  /** Each with a database or process of its own on either side: two of the same differ for as long as they live. */
  readonly blocks: number
  /** Of ours, in a block. */
  readonly rounds: number
}

interface Sides {
  peer(): Promise<Rate>
  ours(): Promise<Rate>
}

/**
 * Rounds of the two in turn, peer first and last, each of ours against the two of the peer around it: a drift of the machine
 * cancels, and what disturbs one round is one value of many. A block gives one ratio, its median; the intervals are of the blocks,
 * because rounds of one block have its luck in common.
 * @param inBlock brings up both sides, measures, and takes them down
 */
export async function alternate(
  size: Rounds,
  inBlock: (block: number, measure: (sides: Sides) => Promise<void>) => Promise<void>,
): Promise<Alternated> {
  const blocks: { ours: Rate[]; peer: Rate[] }[] = []
  for (let block = 0; block < size.blocks; block += 1) {
    await inBlock(block, async (sides) => {
      const peer = [await sides.peer()]
      const ours: Rate[] = []
      while (ours.length < size.rounds) {
        ours.push(await sides.ours())
        peer.push(await sides.peer())
      }
      blocks.push({ ours, peer })
    })
  }
  const ofBlocks = (ratios: (block: (typeof blocks)[number]) => number[]): Interval =>
    interval(blocks.map((block) => interval(ratios(block)).median))
  return {
    ours: medianOf(blocks.flatMap(({ ours }) => ours)),
    peer: medianOf(blocks.flatMap(({ peer }) => peer)),
    ratio: ofBlocks(({ ours, peer }) => betweenNeighbours(ours, peer)),
    p50Ratio: ofBlocks(({ ours, peer }) => betweenNeighbours(ours, peer, (rate) => 1 / rate.p50)),
    noise: ofBlocks(({ peer }) => betweenNeighbours(peer.slice(1, -1), peer, byRate, 2)),
    ...size,
  }
}

function byRate(rate: Rate): number {
  return rate.perSecond
}

function betweenNeighbours(
  middle: readonly Rate[],
  around: readonly Rate[],
  figure = byRate,
  apart = 1,
): number[] {
  return middle.map((each, at) => {
    const [before, after] = [around[at]!, around[at + apart]!]
    return (2 * figure(each)) / (figure(before) + figure(after))
  })
}

/** By the order of the values alone: nothing is assumed of how they scatter. */
function interval(values: readonly number[]): Interval {
  const sorted = values.toSorted((a, b) => a - b)
  const reach = 0.98 * Math.sqrt(sorted.length)
  const at = (place: number): number =>
    sorted[Math.min(sorted.length - 1, Math.max(0, place))] ?? Number.NaN
  const middle = (sorted.length - 1) / 2
  return {
    median: round((at(Math.floor(middle)) + at(Math.ceil(middle))) / 2),
    low: round(at(Math.floor(middle - reach))),
    high: round(at(Math.ceil(middle + reach))),
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000
}

function medianOf(rates: readonly Rate[]): Rate {
  const of = (read: (rate: Rate) => number): number => interval(rates.map(read)).median
  return {
    perSecond: Math.round(of((rate) => rate.perSecond)),
    p50: round(of((rate) => rate.p50)),
    p99: round(of((rate) => rate.p99)),
    count: rates.reduce((sum, rate) => sum + rate.count, 0),
  }
}
