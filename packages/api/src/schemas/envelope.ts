// Dialect 2: the {code, message, data} envelope and the bodies it answers. Messages are the document's
// own, also where it says "create succeed" of an update.

import { z } from '@hono/zod-openapi'
import { Fault, Hostname, Name, Reference, SshKeys, UserData, Uuid } from './fields.ts'
import { Locked, Status } from './instance.ts'

function envelope<Data extends z.ZodType>(message: string, data: Data) {
  return z.object({ code: z.literal(200), message: z.literal(message), data })
}

const GeneratedName = z
  .string()
  .openapi({ example: 'tnng6qrl9mdt8kjb6rmh', description: 'The name that vpe made' })

export const EnvelopeInstanceView = z
  .object({
    name: GeneratedName,
    displayName: z.string().openapi({ description: "The user's name" }),
    namespace: z.string(),
    spec: z.object({
      image: z.string(),
      hostname: z.string().nullable().openapi({ description: 'What its guest is told it is called' }),
      sshKeys: z.array(z.string()),
      userDataSha256: z
        .string()
        .nullable()
        .openapi({ description: 'The user data themselves are not shown' }),
    }),
    shareStorage: z.boolean(),
    hostIDs: z.array(z.string()).openapi({ description: 'Hosts that may run it; empty for any' }),
    status: Status,
    task: z.string().nullable(),
    fault: Fault,
    hostID: Uuid.nullable(),
    podIPs: z.array(z.string()).openapi({ description: 'Where its guest is reached, as its host knows' }),
    imageID: Uuid,
    uuid: Uuid.openapi({ description: 'Its id in dialect 1' }),
    createdAt: z.string().openapi({ format: 'date-time' }),
    locked: Locked,
  })
  .openapi('EnvelopeInstance')

const Named = z.object({ name: GeneratedName })

export const CreateSucceed = envelope('create succeed', Named)
export const DeleteSucceed = envelope('delete succeed', Named)
export const GetSucceed = envelope(
  'get succeed',
  z.union([EnvelopeInstanceView, z.object({ instances: z.array(EnvelopeInstanceView) })]),
)

export const EnvelopeFailure = z
  .object({
    code: z.int(),
    message: z.string().openapi({ example: 'create failed' }),
    data: z.object({ error: z.string(), podIPs: z.array(z.string()).optional() }),
  })
  .openapi('EnvelopeFailure')

const HostIds = z.array(Reference).max(10_000).openapi({ description: 'Empty for any host' })

export const EnvelopeCreateBody = z
  .strictObject({
    name: Name,
    namespace: Name.default('default'),
    spec: z.strictObject({
      image: Reference,
      hostname: Hostname.optional(),
      sshKeys: SshKeys.default([]),
      userData: UserData.optional(),
    }),
    shareStorage: z.boolean().default(false),
    hostIDs: HostIds.default([]),
  })
  .openapi('EnvelopeCreateInstance')

export const EnvelopeUpdateBody = z
  .strictObject({
    name: Name.openapi({ description: 'The generated name, or the name that its user gave it' }),
    namespace: Name.optional(),
    spec: z.strictObject({ image: Reference.optional() }).optional(),
    hostIDs: HostIds.optional(),
  })
  .openapi('EnvelopeUpdateInstance')

export const EnvelopeDeleteBody = z
  .strictObject({ name: Name.optional(), namespace: Name.optional() })
  .optional()
  .openapi('EnvelopeDeleteInstance')

export const EnvelopeQuery = z.strictObject({ name: Name.optional(), namespace: Name.optional() })
