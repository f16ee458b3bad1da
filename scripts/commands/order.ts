import { waitingInIntake } from '../../adapters/partners/waiting-order.ts'
import { findInMes } from '../../adapters/wire/mes-orders.ts'
import type { MesOrder } from '../../adapters/wire/mes-orders.ts'
import { readShopOrders } from '../../adapters/wire/shop-orders.ts'
import type { ShopOrder } from '../../adapters/wire/shop-orders.ts'
import { formatShare } from '../../contracts/path-share.ts'
import { orderTimeline } from '../../delivery/order-timeline.ts'
import type { OrderTimeline, Seen } from '../../delivery/order-timeline.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { formatDuration } from '../command-line/duration.ts'
import { handOverLine } from '../command-line/hand-over-line.ts'
import { statusReason } from '../command-line/status-reason.ts'

type Timeline = OrderTimeline<ShopOrder, MesOrder>

export const order: Command = {
  name: 'order',
  summary: 'where an order is, why it went this way, and how long each hop took',
  operands: ['<order-id>'],
  options: {},
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'INTAKE_URL'],
  exits: {
    0: 'found',
    2: 'the ledger does not know the order, or not yet: then it says where it waits',
    3: 'found, but the Shop DB or the MES did not answer',
  },
  example: 'strangler order 0b7e6f0a-5a1c-4f0e-9d5e-2f6f7e1c9a11',
  async run({ positionals, connections }) {
    const id = positionals[0]!
    const shop = connections.isSet('SHOP_URL') ? connections.shop() : undefined
    const mes = connections.isSet('MES_URL') ? connections.mes() : undefined
    const intake = connections.isSet('INTAKE_URL') ? connections.intake() : undefined
    const timeline: Timeline = await orderTimeline(connections.ledger(), id, {
      shop: shop && (async () => (await readShopOrders(shop, { ids: [id] }))[0]),
      mes: mes && (async () => (await findInMes(mes, [id.toLowerCase()])).get(id.toLowerCase())),
      intake: intake && (() => waitingInIntake(intake, id)),
    })
    const unread = [timeline.shop, timeline.mes].some(({ source }) => source === 'unread')
    return {
      exitCode: unread ? 3 : 0,
      json: timeline,
      text: forPeople(timeline),
    }
  },
}

function forPeople(timeline: Timeline): string {
  const { hops, notes, passes, owner } = timeline
  const lines = [
    `order ${timeline.orderId}`,
    `trace ${timeline.traceId}`,
    `path ${timeline.path}: ${reason(timeline.why)}`,
    timeline.statuses === undefined
      ? 'statuses: none yet; their path is decided at the first'
      : `statuses ${timeline.statuses.path}: ${reason(timeline.statuses.why)}`,
    ...timeline.handOvers.map(handOverLine),
    `state ${timeline.state}, ${timeline.attempts} ${timeline.attempts === 1 ? 'attempt' : 'attempts'}, generation ${timeline.generation}` +
      (owner === undefined ? '' : `, courier ${owner.id} (pid ${owner.pid} on ${owner.host})`),
    ...(timeline.deadReason === undefined
      ? []
      : [`dead because ${JSON.stringify(timeline.deadReason)}`]),
    '',
    columns(
      [
        ['hop', 'enter', 'leave', 'took'],
        ...hops.map((hop) => [
          hop.name,
          clock(hop.enter),
          hop.leave === undefined ? 'now' : clock(hop.leave),
          formatDuration(hop.ms ?? timeline.inCurrentHopMs ?? 0),
        ]),
        ['end to end', '', '', formatDuration(timeline.endToEndMs)],
      ],
      '  ',
    ),
    '',
    ...wayBackLines(timeline.wayBack),
    `Shop DB: ${seen(timeline.shop, (found) => `${found.status}, price ${found.price ?? 'none'}`)}`,
    `MES: ${seen(timeline.mes, (found) => `${found.status}, price ${found.price ?? 'none'}, ${found.rows} ${found.rows === 1 ? 'row' : 'rows: a duplicate'}`)}`,
  ]
  // What was diverted is on the way back.
  const usual = ['forwarded', 'diverted']
  for (const message of timeline.messages.filter((each) => !usual.includes(each.state))) {
    lines.push(
      `${clock(message.receivedAt)}  ${message.queue}: ${message.routingKey} is ${message.state}`,
    )
  }
  for (const pass of passes) {
    const took = pass.leave === undefined ? 'not ended' : formatDuration(pass.leave - pass.enter)
    lines.push(
      `${clock(pass.enter)}  front door ${pass.hop}: ${took} ${JSON.stringify(pass.detail)}`,
    )
  }
  for (const note of notes) {
    lines.push(`${clock(note.at)}  ${note.hop}, by ${note.actor}: ${JSON.stringify(note.detail)}`)
  }
  return lines.join('\n')
}

function wayBackLines(trips: Timeline['wayBack']): string[] {
  if (trips.length === 0) return []
  const took = (trip: Timeline['wayBack'][number], name: string): string => {
    const hop = trip.hops.find((each) => each.name.startsWith(name))
    return hop === undefined ? '-' : hop.ms === undefined ? 'now' : formatDuration(hop.ms)
  }
  return [
    columns(
      [
        ['the MES told', 'status', 'price', 'to', 'bridge', 'status inbox', 'together', ''],
        ...trips.map((trip) => [
          clock(trip.hops[0]!.enter),
          trip.status ?? '-',
          trip.price ?? '-',
          trip.to,
          took(trip, 'bridge'),
          took(trip, 'status inbox'),
          formatDuration(trip.endToEndMs),
          becameOf(trip),
        ]),
      ],
      '  ',
    ),
    '',
  ]
}

function becameOf(trip: Timeline['wayBack'][number]): string {
  const parts = [trip.redriven ? `redriven, ${trip.state}` : trip.state]
  if (trip.reason !== undefined) parts.push(statusReason(trip.reason))
  if (trip.tries > 1) parts.push(`${trip.tries} tries`)
  return parts.join(': ')
}

function reason(why: Timeline['why']): string {
  const { epoch, rule, share, bucket } = why
  const parts = [
    `epoch ${epoch}`,
    typeof rule === 'string' ? `rule "${rule}"` : 'rule not recorded',
  ]
  if (typeof share === 'number') parts.push(`share ${formatShare(share)}`)
  if (typeof bucket === 'number') parts.push(`bucket ${bucket} of 10000`)
  return parts.join(', ')
}

function seen<Found>(look: Seen<Found>, say: (found: Found) => string): string {
  if (look.source === 'unread') return `did not answer (${look.why})`
  if (look.source === 'not set') return 'not asked: no URL is set'
  return look.found === undefined ? 'does not have it' : say(look.found)
}

function clock(instant: number): string {
  return new Date(instant).toISOString().replace('T', ' ').replace('Z', '')
}
