// Reading and writing XML. Documents are plain objects: a key that starts with @ is an attribute,
// #text is text, an array is a repeated element. Written by a library that escapes, never by pasting.

import { XMLBuilder, XMLParser } from 'fast-xml-parser'

export type XmlNode = { readonly [key: string]: XmlValue }
type XmlValue = string | number | XmlNode | readonly XmlNode[] | undefined

const shared = { ignoreAttributes: false, attributeNamePrefix: '@' } as const
const builder = new XMLBuilder({ ...shared, suppressEmptyNode: true, format: true })
const parser = new XMLParser({
  ...shared,
  parseAttributeValue: false,
  parseTagValue: false,
  trimValues: false,
  removeNSPrefix: true,
  // libxml2 writes what is not ASCII as numeric entities, several for each character of a long name.
  htmlEntities: true,
  processEntities: { enabled: true, maxTotalExpansions: 1_000_000, maxExpandedLength: 10_000_000 },
})

/** The document as text. Values of `undefined` are left out. */
export function buildXml(document: XmlNode): string {
  return builder.build(document)
}

/** A document as an object, namespace prefixes removed. Throws on what is not XML. */
export function parseXml(text: string): Record<string, unknown> {
  return parser.parse(text, true)
}

/** Makes attributes of a plain record. */
export function attributes(record: Readonly<Record<string, string>>): XmlNode {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [`@${name}`, value]))
}

/** The attributes of a parsed element, names plain. */
export function attributesOf(node: unknown): Record<string, unknown> {
  if (typeof node !== 'object' || node === null) return {}
  const entries = Object.entries(node).filter(([name]) => name.startsWith('@'))
  return Object.fromEntries(entries.map(([name, value]) => [name.slice(1), value]))
}

/** The children of a parsed element that have a name, however many. */
export function childrenOf(node: unknown, name: string): readonly unknown[] {
  if (typeof node !== 'object' || node === null) return []
  const children = (node as Record<string, unknown>)[name]
  return children === undefined ? [] : Array.isArray(children) ? children : [children]
}

/**
 * Text without what XML 1.0 cannot hold or an attribute cannot keep: control characters (line ends
 * among them) and halves of surrogate pairs become spaces.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|\p{Cs}|[\u2028\u2029\ufffe\uffff]/gu, ' ')
}
