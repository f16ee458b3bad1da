import type { TestBed } from './test-bed.ts'

export interface MemoryAlarm {
  /** From now on the broker reads nothing from who publishes. */
  on(): Promise<void>
  off(): Promise<void>
}

const switchQueue = 'test.memory-alarm'

/**
 * What `rabbitmqctl set_vm_memory_high_watermark 0` does, and takes back, without the second or more that each start of rabbitmqctl
 * takes: it starts once and leaves a watcher in the node, which sets the watermark by whether a queue is there.
 */
export async function installMemoryAlarm({ broker, rabbitmq }: TestBed): Promise<MemoryAlarm> {
  await rabbitmq!.ctl(
    'eval',
    `Switch = rabbit_misc:r(<<"/">>, queue, <<"${switchQueue}">>),
     Watermark = fun(true) -> 0.0; (false) -> 0.4 end,
     Watch = fun(Watch, Was) ->
       timer:sleep(10),
       Is = rabbit_amqqueue:exists(Switch),
       Is =:= Was orelse vm_memory_monitor:set_vm_memory_high_watermark(Watermark(Is)),
       Watch(Watch, Is)
     end,
     spawn(fun() -> Watch(Watch, false) end).`,
  )
  return {
    on: () => broker.declareQueue(switchQueue),
    off: () => broker.deleteQueue(switchQueue),
  }
}
