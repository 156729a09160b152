// The command line of the same engine, where it has been built.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from './harness.mjs'

const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target')
export const PROGRAM = resolve(ROOT, process.env.PADDOCK_BIN ?? join(target, 'release', 'paddock'))

/** Why a test that needs it is left out; false where it is there. */
export const NO_PADDOCK = existsSync(PROGRAM) ? false : 'no paddock program: cargo build --release -p paddock, or set PADDOCK_BIN'

/** Runs it and gives the JSON lines that it writes. */
export async function paddock(...args) {
  const { stdout } = await promisify(execFile)(PROGRAM, [...args, '--log-format', 'json'], { maxBuffer: 2 ** 26 })
  return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line))
}

/** What it answers to a text, on the CPU. */
export async function answer(adapter, text, ...args) {
  const lines = await paddock('predict', '--device', 'cpu', '--model_name_or_path', 'starter', '--adapter', adapter, '--text', text, ...args)
  const line = lines.find(({ label }) => label !== undefined)
  if (!line) throw new Error(`no answer: ${JSON.stringify(lines)}`)
  return { ...line, scores: Array.isArray(line.scores) ? Object.fromEntries(line.scores) : line.scores }
}
