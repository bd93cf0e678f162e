// Flags of C as options of JavaScript: a table names the bits, `true` sets one.

/** A table of bit values by option name. */
export type FlagTable = Readonly<Record<string, number>>
/** The options a table stands for. */
export type FlagsOf<T extends FlagTable> = { readonly [K in keyof T]?: boolean | undefined }

/** The bits of every option that is true. Unknown names are ignored. */
export function flagBits<T extends FlagTable>(table: T, options: FlagsOf<T> = {}): number {
  let bits = 0
  for (const [name, bit] of Object.entries(table)) if (options[name] === true) bits |= bit
  return bits >>> 0
}
