// Hand-written questions, joined with the passages that they are about, in SQuAD v1.1's form. No file access here.

/** Longest passage, in words: a `to` that is found much too late is a mistake in the file. */
const MAX_WORDS = 90

/** One speech in this many is held out. */
const HELD_OUT = 4

/**
 * Lines `{speech, from, to, question, answers}` to SQuAD's articles, one a speech and in their order. A passage goes
 * from the words `from` to the next words `to` of its speech; every answer stands in it. An error names its line.
 */
export function squad(lines, speeches) {
  const articles = new Map()
  const seen = new Set()
  lines.split('\n').forEach((line, index) => {
    if (line.trim() === '') return
    try {
      const { speech, from, to, question, answers } = pair(line)
      const text = speeches.get(speech)
      if (text === undefined) throw new Error(`the package has no speech ${speech}`)
      const context = passage(text, from, to)
      const key = JSON.stringify([context, question])
      if (seen.has(key)) throw new Error(`the question is asked twice: ${question}`)
      seen.add(key)
      if (!articles.has(speech)) articles.set(speech, { title: speech, paragraphs: [] })
      const { paragraphs } = articles.get(speech)
      let paragraph = paragraphs.find((other) => other.context === context)
      if (paragraph === undefined) paragraphs.push((paragraph = { context, qas: [] }))
      const number = paragraphs.reduce((sum, { qas }) => sum + qas.length, 1)
      paragraph.qas.push({ id: `${speech}-${number}`, question, answers: answers.map((answer) => located(context, answer)) })
    } catch (error) {
      throw new Error(`line ${index + 1}: ${error.message}`)
    }
  })
  return [...articles.values()].sort((a, b) => (a.title < b.title ? -1 : 1))
}

/** Training and held-out articles: no speech is in both, and every period is in each. */
export function split(articles) {
  return {
    train: articles.filter((_, index) => index % HELD_OUT !== HELD_OUT - 1),
    valid: articles.filter((_, index) => index % HELD_OUT === HELD_OUT - 1),
  }
}

export function squadFile(articles) {
  return `${JSON.stringify({ version: '1.1', data: articles })}\n`
}

function pair(line) {
  const row = JSON.parse(line)
  for (const key of ['speech', 'from', 'to', 'question']) {
    if (typeof row[key] !== 'string' || row[key].trim() === '') throw new Error(`"${key}" is not a text`)
  }
  const { answers } = row
  if (!Array.isArray(answers) || answers.length < 1 || answers.length > 3) throw new Error('one to three answers are wanted')
  if (answers.some((answer) => typeof answer !== 'string' || answer.trim() === '')) throw new Error('an answer is not a text')
  return row
}

function passage(text, from, to) {
  const start = text.indexOf(from)
  if (start < 0) throw new Error(`the speech does not have the words "${from}"`)
  if (text.indexOf(from, start + 1) >= 0) throw new Error(`the speech has the words "${from}" more than once`)
  const end = text.indexOf(to, start + from.length)
  if (end < 0) throw new Error(`the speech does not have the words "${to}" after "${from}"`)
  const context = text.slice(start, end + to.length)
  const words = context.split(' ').length
  if (words > MAX_WORDS) throw new Error(`the passage has ${words} words, ${MAX_WORDS} at most are wanted`)
  return context
}

/** The answer's first place as whole words. `answer_start` counts Unicode characters, as SQuAD's Python does. */
function located(context, answer) {
  const literal = answer.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const found = new RegExp(`(?<![\\p{L}\\p{N}])${literal}(?![\\p{L}\\p{N}])`, 'u').exec(context)
  if (found === null) throw new Error(`the passage does not have the answer "${answer}" as whole words`)
  return { text: answer, answer_start: Array.from(context.slice(0, found.index)).length }
}
