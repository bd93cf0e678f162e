// How dialect 1 says no: a problem document of RFC 9457.

import { z } from '@hono/zod-openapi'

export const ProblemView = z
  .object({
    type: z.string().openapi({ example: 'urn:vpe:error:name-taken' }),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string().openapi({ description: 'Path of the request' }),
    code: z.string().openapi({ description: 'One of docs/errors.md' }),
    errors: z
      .array(z.object({ field: z.string(), message: z.string() }))
      .optional()
      .openapi({ description: 'The fields at fault' }),
    request_id: z.string(),
  })
  .openapi('Problem')

export type Problem = z.infer<typeof ProblemView>
