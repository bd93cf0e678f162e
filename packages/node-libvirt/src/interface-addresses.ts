// The addresses of a guest: virDomainInterface of <libvirt/libvirt-domain.h>.

import { callLocal } from './library.ts'
import { freeMemory, readPointers, readString, readStruct } from './memory.ts'
import type { Pointer } from './native-functions.ts'

export interface InterfaceAddresses {
  readonly name: string
  /** The MAC address, absent for interfaces without one. */
  readonly hardwareAddress: string | undefined
  readonly addresses: readonly IpAddress[]
}

export interface IpAddress {
  readonly family: 'ipv4' | 'ipv6'
  readonly address: string
  readonly prefix: number
}

// struct { char *name; char *hwaddr; unsigned int naddrs; struct { int type; char *addr; unsigned int prefix } *addrs }
const interfaceBytes = 32
const addressBytes = 24

/** Copies and frees a list of interfaces that libvirt allocated. */
export function readInterfaces(list: Pointer | null, count: number): InterfaceAddresses[] {
  if (list === null) return []
  const interfaces = readPointers(list, count).map((pointer) => {
    const copy = readInterface(pointer)
    callLocal('virDomainInterfaceFree', pointer)
    return copy
  })
  freeMemory(list)
  return interfaces
}

function readInterface(pointer: Pointer): InterfaceAddresses {
  const fields = readStruct(pointer, interfaceBytes)
  const hardwareAddress = fields.getBigUint64(8, true)
  const addresses = fields.getBigUint64(24, true)
  return {
    name: readString(fields.getBigUint64(0, true)),
    hardwareAddress: hardwareAddress === 0n ? undefined : readString(hardwareAddress),
    addresses: Array.from({ length: fields.getUint32(16, true) }, (_, index) =>
      readAddress(addresses + BigInt(index * addressBytes)),
    ),
  }
}

function readAddress(pointer: Pointer): IpAddress {
  const fields = readStruct(pointer, addressBytes)
  return {
    family: fields.getInt32(0, true) === 1 ? 'ipv6' : 'ipv4',
    address: readString(fields.getBigUint64(8, true)),
    prefix: fields.getUint32(16, true),
  }
}
