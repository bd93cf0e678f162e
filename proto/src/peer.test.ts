import { describe, expect, test } from 'vitest'
import {
  type Caller,
  parsePeerUri,
  peerOfAltNames,
  peerUri,
  ROLES,
  refuseCaller,
  refusePeer,
} from './peer.ts'

const AGENT = { role: 'agent', name: 'h-1' } as const

describe('who a certificate speaks for', () => {
  test.each([
    { role: 'controller', name: '' } as const,
    { role: 'nats', name: '' } as const,
    { role: 'api', name: 'api-1.example' } as const,
    AGENT,
  ])('$role is written and read', (peer) => {
    expect(parsePeerUri(peerUri(peer))).toEqual(peer)
    expect(peerOfAltNames(`IP Address:10.0.0.1, URI:${peerUri(peer)}, DNS:x`)).toEqual(peer)
  })

  test.each([
    undefined,
    '',
    'DNS:vpe://controller',
    'URI:vpe://agent/',
    'URI:vpe://agent',
    'URI:vpe://controller/x',
    'URI:vpe://root',
    'URI:https://controller',
    'URI:vpe://agent/a b',
    // Node writes a name with a comma in quotes, so that it can not pass for two.
    'DNS:"x, URI:vpe://controller"',
    'URI:vpe://agent/a, URI:vpe://controller',
  ])('%s speaks for nobody', (altNames) => {
    expect(peerOfAltNames(altNames)).toBeNull()
  })
})

describe('who may call what', () => {
  const allowed: Readonly<Record<string, readonly string[]>> = {
    AgentService: ['loopback', 'controller'],
    ControllerService: ['loopback', 'controller', 'api'],
    CertificateService: ['loopback', 'agent', 'api'],
    EnrolmentService: ['loopback', 'stranger', ...ROLES],
    UnheardOfService: ['loopback'],
  }
  const callers: readonly Caller[] = [
    'loopback',
    'stranger',
    ...ROLES.map((role) => ({ role, name: role === 'agent' || role === 'api' ? 'x' : '' })),
  ]

  test.each(Object.entries(allowed))('%s', (service, names) => {
    for (const caller of callers) {
      const why = refuseCaller(caller, `/vpe.v1.${service}/Anything`)
      const name = typeof caller === 'string' ? caller : caller.role
      expect(why === null, `${name} at ${service}: ${why}`).toBe(names.includes(name))
    }
  })

  test('a refusal says which role is needed, and which came', () => {
    expect(refuseCaller(AGENT, '/vpe.v1.ControllerService/ListHosts')).toBe(
      'vpe.v1.ControllerService needs role api or controller; this call comes with a certificate of vpe://agent/h-1',
    )
  })
})

test('a server is the one that is meant by role and name', () => {
  expect(refusePeer(AGENT, { role: 'agent' })).toBeNull()
  expect(refusePeer(AGENT, { role: 'agent', name: 'h-1' })).toBeNull()
  expect(refusePeer(AGENT, { role: 'agent', name: 'h-2' })).toContain('meant for vpe://agent/h-2')
  expect(refusePeer(AGENT, { role: 'controller' })).toContain('meant for vpe://controller')
  expect(refusePeer(null, { role: 'agent' })).toContain('no role of vpe')
})
