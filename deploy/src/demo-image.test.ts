import { expect, it } from 'vitest'
import { modulesWithDependencies } from './demo-image.ts'

const modulesDep = [
  'kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko',
  'kernel/drivers/input/evdev.ko:',
  'kernel/drivers/other/not_virtio_blk.ko:',
].join('\n')

it('takes along what a kernel module depends on', () => {
  expect(modulesWithDependencies(modulesDep, ['evdev', 'virtio_blk'])).toEqual([
    'kernel/drivers/block/virtio_blk.ko',
    'kernel/drivers/input/evdev.ko',
    'kernel/drivers/virtio/virtio.ko',
    'kernel/drivers/virtio/virtio_ring.ko',
  ])
})

it('names a module that the kernel does not have', () => {
  expect(() => modulesWithDependencies(modulesDep, ['button'])).toThrow(/no module button/)
})
