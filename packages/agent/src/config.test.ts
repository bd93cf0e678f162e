import { describe, expect, test } from 'vitest'
import { loadConfig } from './config.ts'

const enough = { VPE_AGENT_STATE_DIR: '/state' }

describe('the settings', () => {
  test('have defaults', () => {
    expect(loadConfig(enough)).toEqual({
      listen: '127.0.0.1:7702',
      metricsListen: undefined,
      stateDir: '/state',
      libvirtUri: 'qemu:///system',
      natsUrl: 'nats://127.0.0.1:4222',
      imageDirs: [],
      imageBytesMax: 2 ** 41,
      mountDir: '/var/lib/vpe/mnt',
      bridge: undefined,
      migration: {
        receive: {
          libvirtUri: 'qemu+tls://127.0.0.1/system',
          memoryUri: 'tcp://127.0.0.1',
          listenAddress: '127.0.0.1',
        },
        tls: false,
        ports: { from: 49_152, to: 49_215 },
      },
      isNeverPaused: false,
      logLevel: 'info',
    })
  })

  test('list folders with colons between them', () => {
    expect(loadConfig({ ...enough, VPE_AGENT_IMAGE_DIRS: '/a:/b c' }).imageDirs).toEqual(['/a', '/b c'])
  })

  test('a member of a cluster has guests encrypted on their way, unless it is told not to', () => {
    const member = { ...enough, VPE_TLS_DIR: '/tls' }
    expect(loadConfig(member).migration.tls).toBe(true)
    expect(loadConfig({ ...member, VPE_AGENT_MIGRATION_TLS: 'off' }).migration.tls).toBe(false)
    expect(loadConfig({ ...enough, VPE_AGENT_MIGRATION_TLS: 'on' }).migration.tls).toBe(true)
  })

  test('set to nothing are not set', () => {
    expect(loadConfig({ ...enough, VPE_AGENT_BRIDGE: '' }).bridge).toBeUndefined()
  })

  test.each([
    [{}, 'VPE_AGENT_STATE_DIR is not set'],
    [{ VPE_AGENT_STATE_DIR: 'state' }, 'VPE_AGENT_STATE_DIR=state: must be an absolute path'],
    [{ ...enough, VPE_AGENT_LISTEN: '0.0.0.0:7702' }, 'VPE_AGENT_LISTEN=0.0.0.0:7702'],
    [{ ...enough, VPE_AGENT_METRICS_LISTEN: '0.0.0.0:7703' }, 'VPE_AGENT_METRICS_LISTEN=0.0.0.0:7703'],
    [{ ...enough, VPE_AGENT_LISTEN: '7702' }, 'VPE_AGENT_LISTEN=7702: must be host:port'],
    [{ ...enough, VPE_AGENT_IMAGE_DIRS: '/a:b' }, 'VPE_AGENT_IMAGE_DIRS=/a:b: must be an absolute path'],
    [{ ...enough, VPE_AGENT_BRIDGE: 'a bridge' }, 'VPE_AGENT_BRIDGE=a bridge: must be the name of a bridge'],
    [{ ...enough, VPE_AGENT_MIGRATION_PORTS: '80-90' }, 'must go from a port of 1024'],
    [{ ...enough, VPE_AGENT_NEVER_PAUSED: 'hardly' }, 'VPE_AGENT_NEVER_PAUSED=hardly'],
    [{ ...enough, VPE_LOG_LEVEL: 'loud' }, 'VPE_LOG_LEVEL=loud'],
  ])('%j: %s', (environment, words) => expect(() => loadConfig(environment)).toThrow(words))
})
