/**
 * Something went wrong that the person at the keyboard can mend: a missing prerequisite, a full disk,
 * a process that does not start. It carries the command that mends it, and is shown without a stack.
 */
export class Trouble extends Error {
  readonly mend: string | undefined

  constructor(message: string, mend?: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'Trouble'
    this.mend = mend
  }
}
