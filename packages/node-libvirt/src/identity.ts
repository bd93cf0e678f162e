// Names and uuids read out of libvirt's handles, and the handles freed. Only memory is touched.

import koffi from 'koffi'
import { callLocal } from './library.ts'
import { freeMemory, readPointer, readPointers, readString } from './memory.ts'
import type { FunctionName, Pointer } from './native-functions.ts'

export interface DomainIdentity {
  readonly uuid: string
  readonly name: string
}
export interface PoolIdentity {
  readonly uuid: string
  readonly name: string
}
export interface VolumeIdentity {
  readonly name: string
  /** Unique on the host; for files it is the path. */
  readonly key: string
}

// VIR_UUID_STRING_BUFLEN. One buffer will do: the main thread uses it for the length of a call.
let uuidBuffer: Pointer | undefined

export function domainIdentity(handle: Pointer): DomainIdentity {
  return { uuid: uuidOf('virDomainGetUUIDString', handle), name: callLocal('virDomainGetName', handle) ?? '' }
}

export function poolIdentity(handle: Pointer): PoolIdentity {
  return {
    uuid: uuidOf('virStoragePoolGetUUIDString', handle),
    name: callLocal('virStoragePoolGetName', handle) ?? '',
  }
}

export function volumeIdentity(handle: Pointer): VolumeIdentity {
  return {
    name: callLocal('virStorageVolGetName', handle) ?? '',
    key: callLocal('virStorageVolGetKey', handle) ?? '',
  }
}

type Free = Extract<FunctionName, 'virDomainFree' | 'virStoragePoolFree' | 'virStorageVolFree'>

/** Reads a handle and frees it. */
export function takeIdentity<T>(handle: Pointer, read: (handle: Pointer) => T, free: Free): T {
  try {
    return read(handle)
  } finally {
    callLocal(free, handle)
  }
}

/** Reads and frees the handles of a list that libvirt stored at `address`, and the list itself. */
export function takeIdentities<T>(
  address: Pointer,
  count: number,
  read: (handle: Pointer) => T,
  free: Free,
): T[] {
  const list = readPointer(address)
  if (list === null) return []
  try {
    return readPointers(list, count).map((handle) => takeIdentity(handle, read, free))
  } finally {
    freeMemory(list)
  }
}

function uuidOf(name: 'virDomainGetUUIDString' | 'virStoragePoolGetUUIDString', handle: Pointer): string {
  uuidBuffer ??= koffi.alloc('uint8_t', 40) as Pointer
  callLocal(name, handle, uuidBuffer)
  return readString(uuidBuffer)
}
