import { MARK, markAllBut } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** An image that can be had nowhere else must be used on the host that has it. */
export const filterImage: MarkingFilter = {
  name: 'image',
  summary: 'cannot get the image',
  bit: MARK.image,
  mark: (table, { imageHome }, marks) => {
    if (imageHome?.hostId) markAllBut(marks, MARK.image, [table.rowOf(imageHome.hostId)])
  },
  explain: (table, { request }) => {
    const home = request.imageHome?.hostId ?? ''
    return `only host ${table.names[table.rowOf(home)] ?? home} has the image, which has no URL`
  },
}
