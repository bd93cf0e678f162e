// /images: images in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { CreateImageBody, ImageAnswer, ImageListAnswer, ImageUuidAnswer } from '../schemas/image.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showImage } from '../view.ts'

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
      summary: 'Register an image and import it; the import goes on after the answer',
      body: CreateImageBody,
      answer: ImageAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT'],
      fields: { url: 'image.url', disk_pool: 'image.disk_pool' },
    },
    async ({ body }, { change }) => {
      const { name, url, sha256 = '', disk_pool: diskPool = '' } = body.image
      const request = { name, url, sha256, diskPool }
      const answer = await change((options) => controller.createImage(request, options))
      return { image: showImage(given(answer.image, 'the image')) }
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
