/**
 * Shows steps while they go: alive on a terminal, line by line anywhere else. An error is shown in full once, by
 * whoever called; the display only marks the step it happened in.
 */
import {
  type DefaultRenderer,
  Listr,
  type ListrTask,
  type ListrTaskWrapper,
  PRESET_TIMER,
  type SimpleRenderer,
} from 'listr2'

type StepTask = ListrTaskWrapper<unknown, typeof DefaultRenderer, typeof SimpleRenderer>
type AnyStepTask = ListrTask<unknown, typeof DefaultRenderer, typeof SimpleRenderer>

export interface Step {
  readonly title: string
  readonly run: (show: Progress) => Promise<void> | void
}

export interface Progress {
  /** What the step is doing right now. */
  readonly say: (line: string) => void
  /** What came of it: replaces the step's title. */
  readonly conclude: (title: string) => void
}

/** Steps one after the other; those in an inner list side by side. */
export async function runSteps(
  steps: readonly (Step | { readonly title: string; readonly sideBySide: readonly Step[] })[],
): Promise<void> {
  const failures: unknown[] = []
  const asTask = ({ title, run }: Step): AnyStepTask => ({
    title,
    task: async (_, task) => {
      try {
        await run(progressOf(task))
      } catch (error) {
        failures.push(error)
        throw new Error(firstLine(error), { cause: error })
      }
    },
  })
  const tasks = steps.map(
    (step): AnyStepTask =>
      'run' in step
        ? asTask(step)
        : {
            title: step.title,
            task: (_: unknown, task: StepTask) =>
              task.newListr(step.sideBySide.map(asTask), { concurrent: true }),
          },
  )
  const list = new Listr<unknown, 'default', 'simple'>(tasks, {
    registerSignalListeners: false,
    rendererOptions: { collapseSubtasks: false, timer: PRESET_TIMER },
    fallbackRenderer: 'simple',
    fallbackRendererOptions: { timer: PRESET_TIMER },
  })
  await list.run().catch((error) => {
    throw failures[0] ?? error
  })
}

function progressOf(task: StepTask): Progress {
  let last = ''
  return {
    say: (line) => {
      if (line !== last) task.output = line
      last = line
    },
    conclude: (title) => {
      task.title = title
    },
  }
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.split('\n')[0] ?? ''
}
