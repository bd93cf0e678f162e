// /images: images in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  CreateImageBody,
  ImageAnswer,
  ImageCopiesAnswer,
  ImageListAnswer,
  ImageUuidAnswer,
  UploadAnswer,
  UploadQuery,
} from '../schemas/image.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showImage, showImageCopy } from '../view.ts'

export function imageRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/images',
      summary: 'List images by name',
      query: CompanionListQuery,
      answer: ImageListAnswer,
    },
    async ({ query }, { read }) => {
      const answer = await read((options) => controller.listImages(query, options))
      return { images: answer.images.map(showImage) }
    },
  )

  add(
    {
      method: 'get',
      path: '/images/{uuid}',
      summary: 'Show one image',
      answer: ImageAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getImage(params, options))
      return { image: showImage(given(answer.image, 'the image')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/images',
      summary: 'Register an image: imported from a URL, captured from an instance, or waiting for its upload',
      body: CreateImageBody,
      answer: ImageAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT'],
      fields: { url: 'image.url', disk_pool: 'image.disk_pool', instance_uuid: 'image.instance_uuid' },
    },
    async ({ body }, { change }) => {
      const { name, url = '', sha256 = '', disk_pool: diskPool = '' } = body.image
      const { instance_uuid: instanceUuid = '', size_bytes: sizeBytes = 0 } = body.image
      const request = { name, url, sha256, diskPool, instanceUuid, sizeBytes }
      const answer = await change((options) => controller.createImage(request, options))
      return { image: showImage(given(answer.image, 'the image')) }
    },
  )

  add(
    {
      method: 'get',
      path: '/images/{uuid}/data',
      summary: 'How much of an upload has arrived',
      answer: UploadAnswer,
      codes: ['CONFLICT', 'HOST_UNREACHABLE', 'DISK_POOL_FAILED'],
    },
    async ({ params }, { read }) => {
      const { receivedBytes, sizeBytes } = await read((options) => controller.getImageUpload(params, options))
      return { upload: { image_uuid: params.uuid, offset: receivedBytes, size_bytes: sizeBytes || null } }
    },
  )

  add(
    {
      method: 'put',
      path: '/images/{uuid}/data',
      summary: 'Upload an image; what has arrived stays when the connection breaks',
      query: UploadQuery,
      isUpload: true,
      answer: ImageAnswer,
      codes: ['CONFLICT', 'SUPERSEDED', 'HOST_UNREACHABLE', 'DISK_POOL_FAILED', 'IMAGE_INVALID'],
    },
    async ({ params: { uuid }, query, pieces }, { read, change }) => {
      let { offset } = query
      const begin = { uuid, offset }
      const { upload } = await read((options) => controller.beginImageUpload(begin, options))
      for await (const data of pieces()) {
        const piece = { uuid, upload, offset, data }
        await read((options) => controller.writeImageUpload(piece, options))
        offset += data.length
      }
      const end = { uuid, upload, sizeBytes: offset }
      const answer = await change((options) => controller.finishImageUpload(end, options))
      return { image: showImage(given(answer.image, 'the image')) }
    },
  )

  add(
    {
      method: 'get',
      path: '/images/{uuid}/copies',
      summary: 'Which pools have the image, and who uses it there',
      answer: ImageCopiesAnswer,
    },
    async ({ params }, { read }) => {
      const { copies, silentHosts } = await read((options) => controller.listImageCopies(params, options))
      return { copies: copies.map(showImageCopy), silent_hosts: silentHosts }
    },
  )

  add(
    {
      method: 'delete',
      path: '/images/{uuid}/copies/{disk_pool_uuid}',
      summary: 'Remove the image from a pool where nobody uses it',
      answer: ImageUuidAnswer,
      codes: ['IN_USE', 'CONFLICT', 'HOST_UNREACHABLE', 'DISK_POOL_FAILED'],
    },
    async ({ params }, { change }) => {
      const request = { uuid: params.uuid, diskPoolUuid: params.disk_pool_uuid }
      await change((options) => controller.deleteImageCopy(request, options))
      return { image: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'delete',
      path: '/images/{uuid}',
      summary: 'Remove an image; refused while something uses it',
      answer: ImageUuidAnswer,
      codes: ['IN_USE', 'CONFLICT', 'HOST_UNREACHABLE'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteImage(params, options))
      return { image: { uuid: params.uuid } }
    },
  )
}
