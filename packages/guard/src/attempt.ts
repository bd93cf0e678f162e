/** Null where the storage refuses, which is told to whoever reads the log: what follows from it is decided in the core. */
export function attempt<Result>(call: () => Result): Result | null {
  try {
    return call()
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return null
  }
}
