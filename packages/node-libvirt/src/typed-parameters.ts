// virTypedParameter of <libvirt/libvirt-common.h>: libvirt's lists of named values, read and written.

import { callLocal } from './library.ts'
import { readInt, readPointer, readString, readStruct, withMemory } from './memory.ts'
import type { Pointer } from './native-functions.ts'

export type TypedValue = number | boolean | string

/** What to write: the C type decides how the value is stored. */
export type TypedInput =
  | { readonly name: string; readonly type: 'int' | 'uint' | 'ullong'; readonly value: number }
  | { readonly name: string; readonly type: 'string'; readonly value: string }

// char field[80]; int type; union value, 8 bytes on an 8-byte boundary. Little-endian, as every machine is
// that koffi and KVM both run on.
const structBytes = 96
const typeOffset = 80
const valueOffset = 88

/**
 * The values of a C array of typed parameters, by name. 64-bit integers become numbers: exact up to 2^53,
 * rounded to 16 digits above, which a counter of nanoseconds reaches after 104 days of CPU time.
 */
export function readTypedParameters(address: Pointer | null, count: number): Map<string, TypedValue> {
  const values = new Map<string, TypedValue>()
  if (address === null || count === 0) return values
  const bytes = readStruct(address, structBytes * count)
  for (let offset = 0; offset < structBytes * count; offset += structBytes) {
    const value = readValue(bytes, offset)
    if (value !== undefined) values.set(readName(bytes, offset), value)
  }
  return values
}

/**
 * Builds a C array of typed parameters, hands it to `work` and frees it afterwards. A name may occur several
 * times, which is how libvirt writes lists.
 */
export function withTypedParameters<T>(
  inputs: readonly TypedInput[],
  work: (parameters: Pointer | null, count: number) => Promise<T>,
): Promise<T> {
  return withMemory(16, async (memory) => {
    const [count, capacity] = [memory + 8n, memory + 12n]
    try {
      for (const input of inputs) addParameter(memory, count, capacity, input)
      return await work(readPointer(memory), readInt(count))
    } finally {
      callLocal('virTypedParamsFree', readPointer(memory), readInt(count))
    }
  })
}

function addParameter(list: Pointer, count: Pointer, capacity: Pointer, input: TypedInput): void {
  const result = add()
  if (result < 0) throw new RangeError(`libvirt refuses the parameter ${input.name}=${input.value}`)

  function add(): number {
    switch (input.type) {
      case 'int':
        return callLocal('virTypedParamsAddInt', list, count, capacity, input.name, input.value)
      case 'uint':
        return callLocal('virTypedParamsAddUInt', list, count, capacity, input.name, input.value)
      case 'ullong':
        return callLocal('virTypedParamsAddULLong', list, count, capacity, input.name, input.value)
      case 'string':
        return callLocal('virTypedParamsAddString', list, count, capacity, input.name, input.value)
    }
  }
}

function readName(bytes: DataView, offset: number): string {
  const name = new Uint8Array(bytes.buffer, bytes.byteOffset + offset, typeOffset)
  return Buffer.from(name.subarray(0, name.indexOf(0))).toString('latin1')
}

function readValue(bytes: DataView, offset: number): TypedValue | undefined {
  const at = offset + valueOffset
  switch (bytes.getInt32(offset + typeOffset, true)) {
    case 1:
      return bytes.getInt32(at, true)
    case 2:
      return bytes.getUint32(at, true)
    case 3:
      return Number(bytes.getBigInt64(at, true))
    case 4:
      return Number(bytes.getBigUint64(at, true))
    case 5:
      return bytes.getFloat64(at, true)
    case 6:
      return bytes.getUint8(at) !== 0
    case 7: {
      const text = bytes.getBigUint64(at, true)
      return text === 0n ? undefined : readString(text)
    }
    default:
      return undefined
  }
}
