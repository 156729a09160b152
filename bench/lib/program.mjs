// A program that speaks in lines of JSON, run to its end.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Usage } from './options.mjs'
import { ROOT } from './results.mjs'

/**
 * Runs a program; its JSON lines with the seconds at which each came. Fails with what it said where it fails.
 *
 * @param {string} program @param {string[]} words @param {Record<string, string>} env beside the one there is
 * @param {(line: object, pid: number) => void} seen hears each line as it comes
 */
export function lines(program, words, env = {}, seen = () => {}) {
  return new Promise((done, failed) => {
    const begun = performance.now()
    const child = spawn(program, words, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    const found = []
    let said = ''
    child.stderr.on('data', (part) => (said = (said + part).slice(-4000)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const at = (performance.now() - begun) / 1000
      try {
        found.push({ ...JSON.parse(line), at })
      } catch {
        said = `${said}${line}\n`.slice(-4000)
        return
      }
      seen(found.at(-1), child.pid)
    })
    child.on('error', (error) => failed(new Usage(`${program} cannot be started: ${error.message}`)))
    child.on('close', (code) => {
      if (code === 0) return done(found)
      const error = found.find(({ event }) => event === 'error')
      failed(new Usage(error ? `${error.message} ${error.advice}` : said.trim().split('\n').slice(-6).join('\n') || `${program} ended with ${code}`))
    })
  })
}
