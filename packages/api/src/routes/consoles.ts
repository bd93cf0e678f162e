// /instances/{uuid}/vnc and /serial: the URL of a page of this node, and the token that it needs. The
// token is in the fragment, which browsers keep to themselves: no request and no log has it.

import { ConsoleKind, type ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { SerialAnswer, VncAnswer } from '../schemas/console.ts'

export function consoleRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/instances/{uuid}/vnc',
      summary: 'A URL that shows the screen of an active instance in a browser',
      answer: VncAnswer,
      codes: ['CONFLICT'],
      isSecret: true,
    },
    async ({ params: { uuid }, origin }, { read }) => {
      const request = { uuid, kind: ConsoleKind.VNC }
      const { token } = await read((options) => controller.createConsoleToken(request, options))
      return { instance: { uuid, vnc_url: `${origin}/vnc?instance-uuid=${uuid}#token=${token}` } }
    },
  )

  add(
    {
      method: 'get',
      path: '/instances/{uuid}/serial',
      summary: 'A URL that opens the serial line of an active instance in a browser',
      answer: SerialAnswer,
      codes: ['CONFLICT'],
      isSecret: true,
    },
    async ({ params: { uuid }, origin }, { read }) => {
      const request = { uuid, kind: ConsoleKind.SERIAL }
      const { token } = await read((options) => controller.createConsoleToken(request, options))
      return { instance: { uuid, serial_url: `${origin}/serial?instance-uuid=${uuid}#token=${token}` } }
    },
  )
}
