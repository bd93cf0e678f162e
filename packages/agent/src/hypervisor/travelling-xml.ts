// The XML that a running domain takes along: as it is here, for the guest must find the same devices at the same
// addresses, with what is the host's own taken from how the other host would define it.

import { MARK_NAMESPACE, MARK_PREFIX } from '../instance-mark.ts'
import { attributesOf, buildXml, childrenOf, parseXml, type XmlNode } from '../xml.ts'

/**
 * @param live the running domain, as libvirt shows it for a migration
 * @param there the domain as its new host would define it
 */
export function travellingXml(live: string, there: string): string {
  const [from, to] = [rootOf(live), rootOf(there)]
  const [devices, newDevices] = [childrenOf(from, 'devices')[0], childrenOf(to, 'devices')[0]]
  const serial = childrenOf(newDevices, 'serial')[0] as XmlNode | undefined
  const disks = new Map(childrenOf(newDevices, 'disk').map((disk) => [targetOf(disk), disk]))
  const network = childrenOf(newDevices, 'interface')[0]
  return buildXml({
    domain: {
      ...from,
      metadata: markOf(to),
      devices: {
        ...(devices as XmlNode),
        disk: childrenOf(devices, 'disk').map((disk) => withFile(disk, disks.get(targetOf(disk)))),
        // libvirt shows the serial line twice, as a console besides.
        serial: childrenOf(devices, 'serial').map((line) => withLine(line, serial)),
        console: childrenOf(devices, 'console').map((line) => withLine(line, serial)),
        interface: childrenOf(devices, 'interface').map((each) => withNetwork(each, network)),
      },
    },
  })
}

function rootOf(xml: string): XmlNode {
  return parseXml(xml).domain as XmlNode
}

function markOf(root: XmlNode): XmlNode {
  const [metadata] = childrenOf(root, 'metadata')
  const mark = childrenOf(metadata, 'instance')[0] as XmlNode
  const content = Object.entries(mark).filter(([name]) => name !== '@xmlns' && name !== `@${MARK_PREFIX}`)
  return {
    [`${MARK_PREFIX}:instance`]: {
      ...Object.fromEntries(content),
      [`@xmlns:${MARK_PREFIX}`]: MARK_NAMESPACE,
    },
  }
}

/** Its socket and its log lie in the state folder of the agent. */
function withLine(line: unknown, there: XmlNode | undefined): XmlNode {
  const own = line as XmlNode
  if (!there) return own
  return { ...own, '@type': there['@type'], source: there.source, log: there.log }
}

function targetOf(disk: unknown): unknown {
  return attributesOf(childrenOf(disk, 'target')[0]).dev
}

/** A pool may be at another path there; what the file lies on is then seen from it anew. */
function withFile(own: unknown, there: unknown): XmlNode {
  const { backingStore, ...node } = own as XmlNode
  const [source, newSource] = [childrenOf(own, 'source')[0], childrenOf(there, 'source')[0]]
  const file = attributesOf(newSource).file
  if (typeof file !== 'string' || file === attributesOf(source).file) return own as XmlNode
  return { ...node, source: { ...(source as XmlNode), '@file': file } }
}

function withNetwork(own: unknown, there: unknown): XmlNode {
  const node = own as XmlNode
  const [source] = childrenOf(there, 'source')
  if (attributesOf(own).type !== attributesOf(there).type || source === undefined) return node
  return { ...node, source: source as XmlNode }
}
