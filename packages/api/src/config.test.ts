import { describe, expect, test } from 'vitest'
import { readConfig } from './config.ts'

test('the defaults are the loopback ports of the architecture', () => {
  expect(readConfig({})).toEqual({
    listen: { host: '127.0.0.1', port: 8080 },
    controllerAddress: '127.0.0.1:7701',
    natsUrl: 'nats://127.0.0.1:4222',
    logLevel: 'info',
  })
})

test('an IPv6 address is given in brackets', () => {
  expect(readConfig({ VPE_API_LISTEN: '[::1]:0' }).listen).toEqual({ host: '::1', port: 0 })
})

describe('errors name the variable', () => {
  test.each([
    [{ VPE_API_LISTEN: '0.0.0.0:8080' }, /VPE_API_LISTEN=0\.0\.0\.0:8080.*loopback/],
    [{ VPE_API_LISTEN: '192.168.1.2:80' }, /VPE_API_LISTEN=.*loopback/],
    [{ VPE_API_LISTEN: '8080' }, /VPE_API_LISTEN=8080: expected host:port/],
    [{ VPE_API_LISTEN: '127.0.0.1:99999' }, /VPE_API_LISTEN=127\.0\.0\.1:99999: expected host:port/],
    [{ VPE_CONTROLLER_ADDRESS: '' }, /VPE_CONTROLLER_ADDRESS=: expected host:port/],
    [{ VPE_LOG_LEVEL: 'loud' }, /VPE_LOG_LEVEL=loud: expected fatal, error, warn/],
  ])('%j', (environment, message) => {
    expect(() => readConfig(environment)).toThrow(message)
  })

  test('all of them at once', () => {
    expect(() => readConfig({ VPE_API_LISTEN: 'x', VPE_LOG_LEVEL: 'y' })).toThrow(
      /VPE_API_LISTEN.*\n.*VPE_LOG_LEVEL/,
    )
  })
})
