// /api/v1/instance: dialect 2, as its document writes it. An instance is named by its generated name or
// by its user's; the controller looks it up.

import type { z } from '@hono/zod-openapi'
import { VpeError } from '@vpe/core'
import type { ControllerServiceClient, Instance } from '@vpe/proto'
import type { ControllerCalls } from '../controller-calls.ts'
import { type AddEndpoint, JsonText } from '../endpoint.ts'
import { invalidInput } from '../input-fault.ts'
import { InstanceLists } from '../instance-list.ts'
import { HostNotFound } from '../request-fault.ts'
import {
  CreateSucceed,
  DeleteSucceed,
  EnvelopeCreateBody,
  EnvelopeDeleteBody,
  type EnvelopeInstanceView,
  EnvelopeQuery,
  EnvelopeUpdateBody,
  GetSucceed,
} from '../schemas/envelope.ts'
import { given, STATUS_WORDS, TASK_WORDS } from '../view.ts'

const PATH = '/api/v1/instance'

/** What an instance is looked up by. */
interface InstanceKey {
  readonly name?: string | undefined
  /** Absent to look in all. */
  readonly namespace?: string | undefined
}

export function envelopeInstanceRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  const lists = new InstanceLists(controller, show)

  async function find(key: InstanceKey, { read }: ControllerCalls) {
    const answer = await read((options) => controller.findInstance({ called: called(key) }, options))
    return given(answer.instance, 'the instance')
  }

  add(
    {
      method: 'post',
      path: PATH,
      summary: 'Create an instance (dialect 2)',
      body: EnvelopeCreateBody,
      answer: CreateSucceed,
      codes: ['NAME_TAKEN', 'CONFLICT', 'NO_HOST_FITS'],
    },
    async ({ body }, { change }) => {
      const { name, namespace, spec, shareStorage, hostIDs: hostIds } = body
      const { image, hostname = '', sshKeys, userData = '' } = spec
      const request = { name, namespace, image, shareStorage, hostIds, hostname, sshKeys, userData }
      const answer = await change((options) => controller.createInstance(request, options))
      return succeed('create succeed', nameOf(answer.instance))
    },
  )

  add(
    {
      method: 'put',
      path: PATH,
      summary: 'Change image or hosts (dialect 2)',
      body: EnvelopeUpdateBody,
      answer: CreateSucceed,
      codes: ['AMBIGUOUS_NAME', 'CONFLICT', 'NO_HOST_FITS'],
    },
    async ({ body }, { change }) => {
      const hostIds = body.hostIDs && { values: body.hostIDs }
      const request = { called: called(body), image: body.spec?.image, hostIds }
      const answer = await change((options) => controller.updateInstance(request, options))
      return succeed('create succeed', nameOf(answer.instance))
    },
  )

  add(
    {
      method: 'get',
      path: PATH,
      summary: 'Show one instance by name, or all of them (dialect 2)',
      query: EnvelopeQuery,
      answer: GetSucceed,
      codes: ['AMBIGUOUS_NAME'],
    },
    async ({ query }, calls) => {
      if (query.name !== undefined) return succeed('get succeed', show(await find(query, calls)))
      const { namespace = '' } = query
      const texts = await lists.all(calls.read, { namespace })
      return new JsonText(`{"code":200,"message":"get succeed","data":{"instances":[${texts.join(',')}]}}`)
    },
  )

  add(
    {
      method: 'delete',
      path: PATH,
      summary: 'Delete an instance, named in the body or in the query (dialect 2)',
      query: EnvelopeQuery,
      body: EnvelopeDeleteBody,
      answer: DeleteSucceed,
      codes: ['AMBIGUOUS_NAME', 'CONFLICT', 'HOST_NOT_FOUND'],
    },
    async ({ query, body }, calls) => {
      const key = oneKey(query, body ?? {})
      const request = { called: called(key), needsHost: true }
      const answer = await calls
        .change((options) => controller.deleteInstance(request, options))
        .catch(async (error: unknown) => {
          if (!(error instanceof VpeError) || error.code !== 'HOST_UNREACHABLE') throw error
          throw new HostNotFound((await find(key, calls)).addresses, error)
        })
      return succeed('delete succeed', nameOf(answer.instance))
    },
  )
}

function called({ name = '', namespace = '' }: InstanceKey) {
  return { name, namespace }
}

/** Query and body may both name the instance; then they must agree, since one of them is a mistake. */
function oneKey(query: InstanceKey, body: InstanceKey): InstanceKey {
  const name = body.name ?? query.name
  const namespace = body.namespace ?? query.namespace
  if (name === undefined) {
    throw invalidInput([{ field: 'name', message: 'is required, in the body or as ?name=' }])
  }
  if (query.name !== undefined && query.name !== name) {
    throw invalidInput([{ field: 'name', message: 'is another one in the query than in the body' }])
  }
  if (query.namespace !== undefined && query.namespace !== namespace) {
    throw invalidInput([{ field: 'namespace', message: 'is another one in the query than in the body' }])
  }
  return { name, namespace }
}

function succeed<Message extends string, Data>(message: Message, data: Data) {
  return { code: 200 as const, message, data }
}

function nameOf(instance: Instance | undefined): { name: string } {
  return { name: given(instance, 'the instance').generatedName }
}

function show(instance: Instance): z.input<typeof EnvelopeInstanceView> {
  return {
    name: instance.generatedName,
    displayName: instance.name,
    namespace: instance.namespace,
    spec: {
      image: instance.imageName,
      hostname: instance.hostname || null,
      sshKeys: instance.sshKeys,
      userDataSha256: instance.userDataSha256 || null,
    },
    shareStorage: instance.shareStorage,
    hostIDs: instance.hostIds,
    status: STATUS_WORDS[instance.status],
    task: TASK_WORDS[instance.task],
    fault: instance.fault || null,
    hostID: instance.hostId || null,
    podIPs: instance.addresses,
    imageID: instance.imageUuid,
    uuid: instance.uuid,
    createdAt: new Date(instance.createdAtMs).toISOString(),
    locked: instance.locked,
  }
}
