// Flags of the suites, checked: `--alternations 5 --device gpu,cpu --stock`.

/** What a person did wrong: shown as it is, without a stack. */
export class Usage extends Error {}

/**
 * @param {string[]} argv
 * @param {Record<string, { number?: number, least?: number, some?: string[], usual?: string[], one?: string[], text?: string, flag?: true }>} known
 *   each flag's kind with its default: a whole number, some of these words (by default the `usual` ones, or all), one of these words (the
 *   first), a text, or a flag alone
 */
export function options(argv, known) {
  const taken = {}
  for (const [name, { number, some, usual, one, text, flag }] of Object.entries(known)) taken[name] = number ?? usual ?? some ?? one?.[0] ?? text ?? (flag ? false : undefined)
  const list = [...argv]
  while (list.length > 0) {
    const word = list.shift()
    const [name, joined] = word.startsWith('--') ? word.slice(2).split(/=(.*)/s, 2) : ['', undefined]
    const kind = Object.hasOwn(known, name) ? known[name] : undefined
    if (!kind) throw new Usage(`"${word}" is not understood; there is ${Object.keys(known).map((name) => `--${name}`).join(' ') || 'no flag'}`)
    if (kind.flag) {
      if (joined !== undefined) throw new Usage(`--${name} takes no value`)
      taken[name] = true
      continue
    }
    const value = joined ?? list.shift()
    if (value === undefined || value === '') throw new Usage(`--${name} wants a value`)
    taken[name] = valueOf(name, value, kind)
  }
  return taken
}

function valueOf(name, value, { number, least = 1, some, one }) {
  if (number !== undefined) {
    if (!/^\d+$/.test(value) || Number(value) < least || Number(value) > 1e9) throw new Usage(`--${name} ${value}: a whole number from ${least} is wanted`)
    return Number(value)
  }
  const words = some ?? one
  if (!words) return value
  const chosen = some ? value.split(',') : [value]
  const wrong = chosen.find((word) => !words.includes(word))
  if (wrong !== undefined) throw new Usage(`--${name}: there is no "${wrong}"; ${some ? 'any' : 'one'} of ${words.join(', ')}`)
  return some ? chosen : value
}

/** Runs a suite; a fault ends the process with its message. `true` where all went well. @param {() => Promise<boolean>} suite */
export async function main(suite) {
  try {
    if (!(await suite())) process.exitCode = 1
  } catch (error) {
    console.error(error instanceof Usage ? `error: ${error.message}` : error)
    process.exitCode = error instanceof Usage ? 2 : 1
  }
}
