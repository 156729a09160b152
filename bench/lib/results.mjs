// Where it was measured, what of several measurements counts, and the file that keeps them.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem, type } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..')
export const RESULTS = join(ROOT, 'bench', 'results')
/** What suites fetch and make; git ignores it. */
export const WORK = join(ROOT, '.paddock', 'bench')

/** @param {object} more the browser's version and adapter, or what else the figures depend on */
export function machine(more = {}) {
  return {
    cpu: cpus()[0]?.model.trim() || 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${process.arch}`,
    node: process.version,
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    commit: git('rev-parse', '--short=12', 'HEAD') || 'unknown',
    changed: git('status', '--porcelain', '--untracked-files=no') !== '',
    ...more,
  }
}

function git(...words) {
  try {
    return execFileSync('git', words, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return ''
  }
}

/** Writes bench/results/NAME.json. */
export function save(name, found) {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, `${name}.json`), `${written({ suite: name, ...found })}\n`)
}

/** JSON with lists of numbers on one line each: a change of figures stays readable. */
export const written = (value) => JSON.stringify(value, null, 1).replace(/\[[\s\d.,eE+-]*\]/g, (list) => list.replace(/\s+/g, ' '))

/** @param {number[]} values */
export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  if (sorted.length === 0) return null
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

/** By how much, of itself, the losses of two sides differ at most; infinite where they cannot be compared. @param {number[]} ours @param {number[]} theirs */
export function apart(ours, theirs) {
  if (ours.length === 0 || ours.length !== theirs.length) return Infinity
  const gaps = ours.map((loss, step) => Math.abs(loss - theirs[step]) / Math.abs(theirs[step]))
  return gaps.every(Number.isFinite) ? Math.max(...gaps) : Infinity
}

/**
 * Alternations of two sides (or more) become one figure each. `runs`: one entry an alternation, with each side's
 * `{ step_seconds, first_step_seconds, losses }` or `{ error }` by name. The first step compiles and is told apart.
 *
 * @param {Array<Record<string, any>>} runs @param {number} tokens a step
 */
export function summary(runs, tokens) {
  const rate = (run) => (run?.step_seconds?.length > 1 ? tokens / median(run.step_seconds.slice(1)) : NaN)
  const sides = {}
  for (const side of new Set(runs.flatMap(Object.keys))) {
    const of = runs.map((run) => run[side]).filter(Boolean)
    const error = of.find((run) => run.error)?.error
    const rates = of.map(rate).filter(Number.isFinite)
    const firsts = of.map((run) => run.first_step_seconds).filter(Number.isFinite)
    sides[side] = {
      tokens_per_second: median(rates),
      each: rates,
      first_step_seconds: median(firsts),
      /** Nothing of it had been compiled before. */
      first_step_cold_seconds: firsts[0] ?? null,
      losses: of.find((run) => run.losses)?.losses ?? [],
      ...(error && { error }),
    }
  }
  return sides
}

/** `a` over `b` as the median of what each alternation gave: what slows a machine down slows both. */
export function ratio(runs, a, b, of) {
  return median(runs.map((run) => of(run[a]) / of(run[b])))
}

export const speed = (run) => (run?.step_seconds?.length > 1 ? 1 / median(run.step_seconds.slice(1)) : NaN)
export const firstStep = (run) => run?.first_step_seconds ?? NaN
