// pnpm gen: the types of the API, from the document that the API node serves.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openApiDocument } from '@vpe/api/openapi'
import openapiTS, { astToString } from 'openapi-typescript'

const folder = join(import.meta.dirname, '../gen')
// What has a default may be left out of a request.
const types = await openapiTS(await openApiDocument(), { defaultNonNullable: false })
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'api.ts'), astToString(types))
