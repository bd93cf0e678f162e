// Rows by uuid, and by their names, which are unique.

export interface Named {
  readonly uuid: string
  readonly name: string
}

export class NamedMap<Row extends Named> extends Map<string, Row> {
  readonly #uuids = new Map<string, string>()

  findByName(name: string): Row | null {
    return this.get(this.#uuids.get(name) ?? '') ?? null
  }

  override set(uuid: string, row: Row): this {
    this.#forgetName(uuid)
    this.#uuids.set(row.name, uuid)
    return super.set(uuid, row)
  }

  override delete(uuid: string): boolean {
    this.#forgetName(uuid)
    return super.delete(uuid)
  }

  override clear(): void {
    this.#uuids.clear()
    super.clear()
  }

  /** Where another row has taken the name meanwhile, it keeps it. */
  #forgetName(uuid: string): void {
    const name = this.get(uuid)?.name
    if (name !== undefined && this.#uuids.get(name) === uuid) this.#uuids.delete(name)
  }
}
