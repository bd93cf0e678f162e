// A thread that makes one blocking libvirt call at a time and answers with its result or its error.
//
// libvirt keeps the last error per OS thread. Here the call and the reading of its error happen one after the
// other on the same thread with nothing between, so an error can never be that of another call.
//
// Plain JavaScript on purpose: as TypeScript, each thread would load Node's type stripper, which costs it
// 10 MB and 30 ms.

import { parentPort } from 'node:worker_threads'
import koffi from 'koffi'

const virError = koffi.struct('virError', {
  code: 'int',
  domain: 'int',
  message: 'str',
  level: 'int',
  conn: 'void *',
  dom: 'void *',
  str1: 'str',
  str2: 'str',
  str3: 'str',
  int1: 'int',
  int2: 'int',
  net: 'void *',
})

const library = koffi.load('libvirt.so.0')
const lastError = library.func('virGetLastError', 'void *', [])
const functions = new Map()

parentPort.on('message', ({ name, signature, args }) => {
  parentPort.postMessage(answer(name, signature, args))
})

function answer(name, [resultType, ...parameterTypes], args) {
  let call = functions.get(name)
  if (call === undefined) {
    const holder = findLibrary(name)
    if (holder === undefined) return { kind: 'missing' }
    call = holder.func(name, resultType, parameterTypes)
    functions.set(name, call)
  }
  let result
  try {
    result = call(...args)
  } catch (error) {
    return { kind: 'misused', message: String(error) }
  }
  // libvirt says "failed" by NULL, by a negative number or, where the result is an amount, by 0 with an error set.
  const doubtful = result === null || result < 0 || (result === 0 && resultType.startsWith('ulong'))
  if (!doubtful) return { kind: 'done', result }
  const address = lastError()
  if (address === null)
    return result === 0 ? { kind: 'done', result } : { kind: 'failed', error: silentFailure(name) }
  const { code, domain, message, level, str1, str2, str3, int1, int2 } = koffi.decode(address, virError)
  if (code === 0)
    return result === 0 ? { kind: 'done', result } : { kind: 'failed', error: silentFailure(name) }
  return { kind: 'failed', error: { code, domain, message, level, str1, str2, str3, int1, int2 } }
}

/** The library that has a function; undefined where none has. */
function findLibrary(name) {
  try {
    const holder = name.startsWith('virDomainQemu') ? koffi.load('libvirt-qemu.so.0') : library
    holder.symbol(name)
    return holder
  } catch {
    return undefined
  }
}

function silentFailure(name) {
  return { code: 1, domain: 0, level: 2, message: `${name} failed without saying why` }
}
