// The CPU that guests can have, read from what libvirt says of it.

import { attributesOf, buildXml, childrenOf, parseXml } from '../xml.ts'
import type { GuestCpu } from './hypervisor.ts'

/** The `<cpu>` that host-model stands for, out of domain capabilities; null when there is none. */
export function hostModelOf(domainCapabilities: string): string | null {
  const [root] = childrenOf(parseXml(domainCapabilities), 'domainCapabilities')
  const [cpu] = childrenOf(root, 'cpu')
  const mode = childrenOf(cpu, 'mode').find((each) => {
    const { name, supported } = attributesOf(each)
    return name === 'host-model' && supported === 'yes'
  })
  const [model] = childrenOf(mode, 'model')
  if (model === undefined) return null
  const [vendor] = childrenOf(mode, 'vendor')
  const features = childrenOf(mode, 'feature').map((feature) => feature as Record<string, string>)
  return buildXml({
    cpu: {
      '@mode': 'custom',
      '@match': 'exact',
      model: model as string,
      vendor: vendor as string | undefined,
      feature: features,
    },
  })
}

/** Model and features of a `<cpu>`; those that it shall not have are none. */
export function guestCpuOf(xml: string): GuestCpu {
  const [cpu] = childrenOf(parseXml(xml), 'cpu')
  const [model] = childrenOf(cpu, 'model')
  const features = childrenOf(cpu, 'feature')
    .map(attributesOf)
    .filter(({ policy }) => policy !== 'disable' && policy !== 'forbid')
    .map(({ name }) => String(name))
  return { model: textOf(model), features: features.sort() }
}

function textOf(node: unknown): string {
  if (typeof node === 'string') return node.trim()
  const [text] = childrenOf(node, '#text')
  return typeof text === 'string' ? text.trim() : ''
}
