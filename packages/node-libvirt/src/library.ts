// Loads libvirt.so.0 on first use and calls, on the calling thread, those of its functions that only touch
// memory: reading a name out of a handle, freeing it, building parameters. Whatever may wait for a daemon, a
// lock or a disk goes through native-threads.ts instead.

import koffi from 'koffi'
import {
  type ArgumentsOf,
  type FunctionName,
  nativeFunctions,
  type Pointer,
  type ResultOf,
} from './native-functions.ts'

type Library = ReturnType<typeof koffi.load>

let loaded: Library | undefined
const functions = new Map<FunctionName, (...args: unknown[]) => unknown>()

/** The library, loaded. Throws an Error with code `ERR_LIBVIRT_MISSING` that says what to install. */
export function libvirt(): Library {
  if (loaded !== undefined) return loaded
  loaded = loadLibrary('libvirt.so.0')
  // Without a handler libvirt prints every error on stderr. The handler runs on the failing thread, so it must
  // be native code; virGetLastErrorCode ignores the arguments it gets and changes nothing.
  callLocal('virSetErrorFunc', null, symbolAddress('virGetLastErrorCode'))
  return loaded
}

/** Loads a shared library by its file name, or explains how to install it. */
export function loadLibrary(file: string): Library {
  try {
    return koffi.load(file)
  } catch (cause) {
    const message =
      `${file} cannot be loaded, the libvirt client library is not installed. ` +
      `On Debian and Ubuntu it is the package libvirt0: apt-get install libvirt0. ` +
      `On Fedora and RHEL: dnf install libvirt-libs.`
    throw Object.assign(new Error(message, { cause }), { code: 'ERR_LIBVIRT_MISSING' })
  }
}

/** Calls a function that never waits. Returns what C returned; failures are for the caller to see. */
export function callLocal<N extends FunctionName>(name: N, ...args: ArgumentsOf<N>): ResultOf<N> {
  let call = functions.get(name)
  if (call === undefined) {
    const [result, ...parameters] = nativeFunctions[name] as readonly [string, ...string[]]
    call = libvirt().func(name, result, parameters) as (...args: unknown[]) => unknown
    functions.set(name, call)
  }
  return call(...args) as ResultOf<N>
}

/** The address of one of libvirt's functions, to be handed to another as a callback. */
export function symbolAddress(name: FunctionName): Pointer {
  return libvirt().symbol(name) as Pointer
}
