// What a failed libvirt call throws. The fields are those of libvirt's virError, read on the thread that made
// the call (native-thread-main.mjs), so an error always belongs to the call that raised it, however many run
// at once.

import { errorCodes, errorDomains } from './error-codes.ts'

/** libvirt's error numbers by name, without `VIR_ERR_`: `NO_DOMAIN`, `OPERATION_INVALID`… */
export type ErrorCodeName = keyof typeof errorCodes
/** The part of libvirt that raised an error, without `VIR_FROM_`: `QEMU`, `RPC`, `STORAGE`… */
export type ErrorDomainName = keyof typeof errorDomains
export type ErrorLevel = 'none' | 'warning' | 'error'

/** The virError struct as it crosses from the calling thread. */
export interface ErrorFields {
  readonly code: number
  readonly domain: number
  readonly level: number
  readonly message: string | null
  readonly str1?: string | null
  readonly str2?: string | null
  readonly str3?: string | null
  readonly int1?: number
  readonly int2?: number
}

const levels: readonly ErrorLevel[] = ['none', 'warning', 'error']

/** A failed libvirt call. `codeName` is what programs branch on, `message` is libvirt's own sentence. */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError'
  /** virErrorNumber, for instance 42. */
  readonly code: number
  /** `code` by name, for instance `NO_DOMAIN`; `UNKNOWN` for a number newer than this package. */
  readonly codeName: ErrorCodeName | 'UNKNOWN'
  /** virErrorDomain, for instance 10. */
  readonly domain: number
  /** `domain` by name, for instance `QEMU`. */
  readonly domainName: ErrorDomainName | 'UNKNOWN'
  readonly level: ErrorLevel
  /** The C function that failed, or undefined when no call was made. */
  readonly call: string | undefined
  /** Extra texts and numbers whose meaning depends on `code`. int1 is the errno of a SYSTEM_ERROR. */
  readonly str1: string | undefined
  readonly str2: string | undefined
  readonly str3: string | undefined
  readonly int1: number
  readonly int2: number

  constructor(fields: ErrorFields, call?: string, options?: ErrorOptions) {
    super(fields.message ?? `libvirt error ${fields.code}`, options)
    this.code = fields.code
    this.codeName = nameOf(errorCodes, fields.code)
    this.domain = fields.domain
    this.domainName = nameOf(errorDomains, fields.domain)
    this.level = levels[fields.level] ?? 'error'
    this.call = call
    this.str1 = fields.str1 ?? undefined
    this.str2 = fields.str2 ?? undefined
    this.str3 = fields.str3 ?? undefined
    this.int1 = fields.int1 ?? 0
    this.int2 = fields.int2 ?? 0
  }
}

/** True when `error` came from libvirt and, if names are given, carries one of those codes. */
export function isLibvirtError(error: unknown, ...codeNames: ErrorCodeName[]): error is LibvirtError {
  if (!(error instanceof LibvirtError)) return false
  return codeNames.length === 0 || (codeNames as string[]).includes(error.codeName)
}

/** An error this package raises itself, in libvirt's vocabulary so that callers need one kind of check. */
export function ownError(codeName: ErrorCodeName, message: string, call?: string): LibvirtError {
  return new LibvirtError({ code: errorCodes[codeName], domain: 0, level: 2, message }, call)
}

function nameOf<T extends Record<string, number>>(table: T, value: number): keyof T | 'UNKNOWN' {
  return Object.keys(table).find((name) => table[name] === value) ?? 'UNKNOWN'
}
