import { defineConfig } from 'drizzle-kit'

// `pnpm --filter @vpe/controller migration --name <what-changes>` writes the next migration from the schema.
export default defineConfig({
  dialect: 'sqlite',
  schema: './src/store/schema.ts',
  out: './src/store/migrations',
  casing: 'snake_case',
})
