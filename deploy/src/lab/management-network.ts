/**
 * The network by which a lab's hosts, its controller and its NATS reach each other: a bridge with a subnet of its
 * own, and a cable (veth) to each host's network namespace. A host is cut off by taking its cable down.
 */
import { execa } from 'execa'

export interface Cable {
  /** The host's network namespace, by its name for `ip netns`. */
  readonly namespace: string
  /** The end that is in the bridge. */
  readonly outerEnd: string
  /** The host's address. */
  readonly address: string
}

const prefixLength = 24

/** From the routes and addresses of a machine (`a.b.c.d/n`) to a /24 that meets none: its first three bytes. */
export function chooseSubnet(taken: readonly string[], random: () => number): string {
  const others = taken.map(parseSubnet)
  for (let attempt = 0; attempt < 1000; attempt++) {
    const subnet = `10.${200 + Math.floor(random() * 55)}.${Math.floor(random() * 256)}`
    const [own] = [parseSubnet(`${subnet}.0/${prefixLength}`)]
    if (!others.some((other) => meet(own, other))) return subnet
  }
  throw new RangeError('every subnet from 10.200.0.0 to 10.254.255.0 is in use')
}

interface Subnet {
  readonly base: number
  readonly bits: number
}

function parseSubnet(text: string): Subnet {
  const [address = '', bits = '32'] = text.split('/')
  const base = address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0)
  return { base, bits: Number(bits) }
}

function meet(a: Subnet, b: Subnet): boolean {
  const size = 2 ** (32 - Math.min(a.bits, b.bits))
  return Math.floor(a.base / size) === Math.floor(b.base / size)
}

/** Every subnet that this machine has an address in, or a route to (but for the default route). */
export async function takenSubnets(): Promise<string[]> {
  const [routes, links] = await Promise.all([
    ipJson<{ dst: string }>('-4', 'route', 'show', 'table', 'all'),
    ipJson<{ addr_info?: { local?: string; prefixlen?: number }[] }>('-4', 'addr'),
  ])
  return [
    ...routes.map(({ dst }) => dst).filter((dst) => /^\d+\./.test(dst)),
    ...links.flatMap(({ addr_info = [] }) =>
      addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    ),
  ]
}

/** The bridge, with the first address of the subnet; made when it is not there. */
export async function ensureBridge(bridge: string, subnet: string): Promise<void> {
  if (!(await linkExists(bridge))) await ip('link', 'add', bridge, 'type', 'bridge')
  await ip('addr', 'replace', `${subnet}.1/${prefixLength}`, 'dev', bridge)
  await ip('link', 'set', bridge, 'up')
}

/** A host's network namespace and its cable; made when they are not there. A cable that is down stays so. */
export async function ensureCable(bridge: string, { namespace, outerEnd, address }: Cable): Promise<void> {
  if (!(await namespaces()).includes(namespace)) await ip('netns', 'add', namespace)
  if (!(await linkExists(outerEnd))) {
    await ip('link', 'add', outerEnd, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
    await ip('link', 'set', outerEnd, 'master', bridge, 'up')
  }
  const inside = (...args: string[]) => ip('-n', namespace, ...args)
  await inside('link', 'set', 'lo', 'up')
  await inside('addr', 'replace', `${address}/${prefixLength}`, 'dev', 'eth0')
  await inside('link', 'set', 'eth0', 'up')
}

export async function plug({ outerEnd }: Cable): Promise<void> {
  await ip('link', 'set', outerEnd, 'up')
}

export async function unplug({ outerEnd }: Cable): Promise<void> {
  await ip('link', 'set', outerEnd, 'down')
}

export async function isPlugged({ outerEnd }: Cable): Promise<boolean> {
  if (!(await linkExists(outerEnd))) return false
  const [link] = await ipJson<{ flags: string[] }>('link', 'show', outerEnd)
  return link?.flags.includes('UP') ?? false
}

/** Removes all of a lab's network, known by the beginning of its names. */
export async function removeNetwork(prefix: string): Promise<void> {
  for (const namespace of (await namespaces()).filter((name) => name.startsWith(prefix)))
    await ip('netns', 'del', namespace)
  // A cable goes with its namespace, but only once the kernel gets to it.
  for (const link of await linksOf(prefix)) await ip('link', 'del', link).catch(unlessGone)
}

/** What is there of a lab's network. */
export async function networkParts(prefix: string): Promise<string[]> {
  return [...(await namespaces()).filter((name) => name.startsWith(prefix)), ...(await linksOf(prefix))]
}

async function linksOf(prefix: string): Promise<string[]> {
  const links = await ipJson<{ ifname: string }>('link', 'show')
  return links.map(({ ifname }) => ifname).filter((name) => name.startsWith(prefix))
}

async function namespaces(): Promise<string[]> {
  return (await ipJson<{ name: string }>('netns', 'list')).map(({ name }) => name)
}

async function linkExists(name: string): Promise<boolean> {
  return (await linksOf(name)).includes(name)
}

async function ip(...args: string[]): Promise<string> {
  return (await execa('ip', args, { stdin: 'ignore' })).stdout
}

async function ipJson<T>(...args: string[]): Promise<T[]> {
  const text = await ip('-j', ...args)
  return text.trim() === '' ? [] : JSON.parse(text)
}

function unlessGone(error: unknown): void {
  if (!/Cannot find device/.test(String(error))) throw error
}
