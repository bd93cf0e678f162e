// Files of the state folder: either the old one or the new one, whatever happens while one is written.

import { readIfThere } from '@vpe/pki'

export { writeDurably } from '@vpe/pki'

/** The JSON in a file; undefined when there is no file. */
export async function readJson(path: string): Promise<unknown> {
  const text = await readIfThere(path)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Error(`${path} is not JSON; restore it from a backup`, { cause })
  }
}
