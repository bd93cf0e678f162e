// A real browser for tests of the console pages: Debian's Chromium without a window, with nothing of the
// user's and no errands of its own.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import { BOUND_MS } from './cluster.ts'

const ARTEFACTS = join(import.meta.dirname, '..', 'artefacts')

const SHIFTED: Readonly<Record<string, string>> = {
  $: 'Digit4',
  '(': 'Digit9',
  ')': 'Digit0',
  '+': 'Equal',
  '*': 'Digit8',
  '>': 'Period',
}

export class Browser {
  readonly #profile: string
  readonly #context: BrowserContext

  private constructor(profile: string, context: BrowserContext) {
    this.#profile = profile
    this.#context = context
  }

  static async start(): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'vpe-chromium-'))
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: '/usr/bin/chromium',
      timeout: BOUND_MS,
      viewport: { width: 900, height: 620 },
      args: [
        '--no-sandbox',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--no-first-run',
        '--disable-gpu',
        '--disable-quic',
      ],
    })
    // Ten pages at once take their time on a machine that has other work.
    context.setDefaultTimeout(BOUND_MS)
    return new Browser(profile, context)
  }

  async open(url: string): Promise<ConsolePage> {
    const page = await this.#context.newPage()
    const view = new ConsolePage(page)
    await page.goto(url)
    return view
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#context.close()
    rmSync(this.#profile, { recursive: true, force: true })
  }
}

/** One of the two console pages, as somebody in front of it sees and uses it. */
export class ConsolePage {
  readonly page: Page
  /** What went wrong in its scripts; must stay empty. */
  readonly errors: string[] = []

  constructor(page: Page) {
    this.page = page
    page.on('pageerror', (error) => this.errors.push(String(error)))
  }

  /** Waits until the line at the top says so; returns what else it says. */
  async status(state: 'open' | 'closed'): Promise<{ text: string; code: string | null }> {
    const line = this.page.locator(`#status[data-state="${state}"]`)
    await line.waitFor()
    return { text: (await line.textContent()) ?? '', code: await line.getAttribute('data-code') }
  }

  /** How many colours the guest's screen shows, and a sum over all of its pixels. */
  async picture(): Promise<{ colours: number; sum: number }> {
    return await this.page.evaluate(`(() => {
      const canvas = document.querySelector('#console canvas')
      if (!canvas?.width) return { colours: 0, sum: 0 }
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
      const words = new Uint32Array(data.buffer)
      let sum = 0
      for (const word of words) sum = (sum * 31 + word) | 0
      return { colours: new Set(words).size, sum }
    })()`)
  }

  /** What the terminal of the serial page shows, line by line. */
  async terminalText(): Promise<string> {
    return await this.page.evaluate(`(() => {
      const { active } = globalThis.terminal.buffer
      return Array.from({ length: active.length }, (_, at) => active.getLine(at).translateToString(true)).join('\\n')
    })()`)
  }

  /** Presses the keys for a text, as on an American keyboard, and Enter. */
  async typeLine(text: string): Promise<void> {
    for (const char of text) {
      const shifted = SHIFTED[char] ?? (/[A-Z]/.test(char) ? `Key${char}` : undefined)
      await this.page.keyboard.press(shifted ? `Shift+${shifted}` : char === ' ' ? 'Space' : char, {
        delay: 20,
      })
    }
    await this.page.keyboard.press('Enter', { delay: 20 })
  }

  async screenshot(name: string): Promise<void> {
    mkdirSync(ARTEFACTS, { recursive: true })
    await this.page.screenshot({ path: join(ARTEFACTS, `${name}.png`) })
  }

  async close(): Promise<void> {
    await this.page.close()
  }
}
