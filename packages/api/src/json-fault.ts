// Where a text stops being JSON, for people. JSON.parse decides whether a text is JSON; V8 names the
// position in some of its messages and not in others, so this scan finds it again. Runs only on texts
// that JSON.parse refused, without recursion, in one pass.

export interface JsonFault {
  readonly line: number
  readonly column: number
  readonly message: string
}

class Unexpected extends Error {
  readonly offset: number

  constructor(offset: number, expected: string) {
    super(expected)
    this.offset = offset
  }
}

const BLANKS = /[ \t\n\r]*/y
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

/** The first syntax error of a text; null when this scan finds none. */
export function findJsonFault(text: string): JsonFault | null {
  try {
    scan(text)
    return null
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error
    const before = text.slice(0, error.offset)
    const line = before.split('\n').length
    const column = error.offset - before.lastIndexOf('\n')
    const code = text.codePointAt(error.offset)
    const found = code === undefined ? 'the end' : JSON.stringify(String.fromCodePoint(code))
    return { line, column, message: `expected ${error.message}, found ${found}` }
  }
}

function scan(text: string): void {
  /** The brackets that are open, outermost first. */
  const open: ('{' | '[')[] = []
  let at = skip(text, 0)
  for (;;) {
    // A value begins at `at`.
    if (text[at] === '{' || text[at] === '[') {
      const bracket = text[at] === '{' ? '{' : '['
      at = skip(text, at + 1)
      if (text[at] === closing(bracket)) at = skip(text, at + 1)
      else {
        open.push(bracket)
        if (bracket === '{') at = scanFieldName(text, at)
        continue
      }
    } else at = skip(text, text[at] === '"' ? scanString(text, at) : scanScalar(text, at))
    // A value ended before `at`: brackets close, or another value follows.
    for (;;) {
      const bracket = open.at(-1)
      if (bracket === undefined) {
        if (at < text.length) throw new Unexpected(at, 'nothing after the value')
        return
      }
      if (text[at] === ',') {
        at = skip(text, at + 1)
        if (bracket === '{') at = scanFieldName(text, at)
        break
      }
      if (text[at] !== closing(bracket)) throw new Unexpected(at, `"," or "${closing(bracket)}"`)
      open.pop()
      at = skip(text, at + 1)
    }
  }
}

function closing(bracket: '{' | '['): string {
  return bracket === '{' ? '}' : ']'
}

function skip(text: string, at: number): number {
  BLANKS.lastIndex = at
  BLANKS.test(text)
  return BLANKS.lastIndex
}

function scanScalar(text: string, at: number): number {
  SCALAR.lastIndex = at
  if (!SCALAR.test(text)) throw new Unexpected(at, 'a value')
  return SCALAR.lastIndex
}

function scanFieldName(text: string, at: number): number {
  if (text[at] !== '"') throw new Unexpected(at, 'a field name in double quotes')
  const colon = skip(text, scanString(text, at))
  if (text[colon] !== ':') throw new Unexpected(colon, '":"')
  return skip(text, colon + 1)
}

function scanString(text: string, start: number): number {
  let at = start + 1
  for (;;) {
    const char = text[at]
    if (char === '"') return at + 1
    if (char === undefined) throw new Unexpected(at, 'the closing quote of a string')
    if (char < ' ') throw new Unexpected(at, 'no control character in a string')
    if (char !== '\\') {
      at++
      continue
    }
    ESCAPE.lastIndex = at
    if (!ESCAPE.test(text)) throw new Unexpected(at, 'an escape such as \\n or \\u00e9')
    at = ESCAPE.lastIndex
  }
}
