// Turns raw material into clean rows: e-mails to text, a seeded shuffle, CSV. No file access here.

import { convert } from 'html-to-text'
import PostalMime from 'postal-mime'

/** Longest text kept, in Unicode characters: more than the starter model's context can use. */
export const MAX_CHARACTERS = 2000

const HTML_OPTIONS = {
  wordwrap: false,
  selectors: [
    { selector: 'a', options: { ignoreHref: true } },
    { selector: 'img', format: 'skip' },
  ],
  limits: { maxInputLength: 200_000 },
}

/** Whitespace runs become one space; control characters go. */
export function collapse(text) {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\ufeff]/g, ' ')
    .replace(/\s+/gu, ' ')
    .trim()
}

/** At most `limit` Unicode characters, cut at a space where there is one near the end. */
export function cut(text, limit = MAX_CHARACTERS) {
  const characters = Array.from(text)
  if (characters.length <= limit) return text
  const head = characters.slice(0, limit).join('')
  const space = head.lastIndexOf(' ')
  return space > 0 && space > head.length - 80 ? head.slice(0, space) : head
}

/** UTF-8 where the bytes are valid UTF-8, else Latin-1, which every byte string is. */
export function decode(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return new TextDecoder('latin1').decode(bytes)
  }
}

/**
 * One e-mail as text: its subject on the first line, then its body with headers, markup and attachments gone.
 * Empty where nothing readable is left.
 */
export async function mailText(bytes) {
  const mail = await PostalMime.parse(bytes)
  let body = mail.text ?? ''
  // Mail of that age often says text/plain and holds HTML.
  const html = collapse(body) === '' ? (mail.html ?? '') : looksLikeHtml(body) ? body : ''
  if (html !== '') body = convert(html, HTML_OPTIONS)
  // A charset that is missing or untrue shows as U+FFFD.
  if (body.includes('\ufffd') && html === '') body = undeclared(bytes) ?? body
  let subject = mail.subject ?? ''
  if (subject.includes('\ufffd')) subject = undeclaredSubject(bytes) ?? subject
  const parts = [subject, body].map((part) => collapse(part.replaceAll('\ufffd', '')))
  return cut(parts.filter((part) => part !== '').join('\n'))
}

function looksLikeHtml(text) {
  return /<(html|body|table|font|p|br|a)\b[^>]*>/i.test(text.slice(0, 4000))
}

/** The body of a single-part message with its bytes as they stand; undefined for anything encoded. */
function undeclared(bytes) {
  const raw = decode(bytes)
  const end = raw.search(/\r?\n\r?\n/)
  if (end < 0 || /^content-type:\s*multipart|^content-transfer-encoding:\s*(base64|quoted)/im.test(raw.slice(0, end))) {
    return undefined
  }
  return raw.slice(end)
}

/** The subject line with its bytes as they stand, for eight-bit headers that name no charset. */
function undeclaredSubject(bytes) {
  const subject = decode(bytes).match(/^subject:(.*(?:\r?\n[ \t].*)*)/im)?.[1]
  return subject === undefined || /=\?[^?]+\?[bq]\?/i.test(subject) ? undefined : subject
}

/** A small seeded generator (mulberry32): the same sample on every machine. */
export function random(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A new array in seeded random order (Fisher–Yates). */
export function shuffle(rows, seed) {
  const next = random(seed)
  const result = rows.slice()
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1))
    ;[result[i], result[j]] = [result[j], result[i]]
  }
  return result
}

/** `perLabel` rows of each label, in seeded random order; throws where a label has fewer. */
export function balanced(rows, perLabel, seed) {
  const chosen = []
  for (const label of [...new Set(rows.map((row) => row.label))].sort()) {
    const same = shuffle(rows.filter((row) => row.label === label), seed)
    if (same.length < perLabel) throw new Error(`only ${same.length} rows have the label ${label}, ${perLabel} are wanted`)
    chosen.push(...same.slice(0, perLabel))
  }
  return shuffle(chosen, seed + 1)
}

/** `perLabel` rows of each label held out, the others to train on, both in seeded random order. */
export function heldOut(rows, perLabel, seed) {
  const valid = balanced(rows, perLabel, seed)
  const chosen = new Set(valid)
  return { train: shuffle(rows.filter((row) => !chosen.has(row)), seed), valid }
}

/** Rows whose text was seen before would sit in both training and held-out rows, so only the first of each stays. */
export function withoutRepeats(rows) {
  const seen = new Set()
  return rows.filter(({ text }) => !seen.has(text) && seen.add(text))
}

/** RFC 4180 with a header line `text,label`. */
export function csv(rows) {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value)
  return ['text,label', ...rows.map(({ text, label }) => `${field(text)},${field(label)}`)].join('\n') + '\n'
}

/** Lines `id<TAB>score<TAB>text` to rows: above 0 positive, below 0 negative, exactly 0 (no verdict) dropped. */
export function scored(lines) {
  const rows = []
  for (const line of lines.split(/\r?\n/)) {
    if (line.trim() === '') continue
    const [, score, ...rest] = line.split('\t')
    const value = Number(score)
    const text = collapse(rest.join(' '))
    if (!Number.isFinite(value) || text === '') throw new Error(`not "id, score, text" between tabs: ${line.slice(0, 80)}`)
    if (value !== 0) rows.push({ text, label: value > 0 ? 'positive' : 'negative' })
  }
  return rows
}

/** Text that was cut into tokens ("( NER ) ca n't .") as people write it. */
export function untokenised(text) {
  return text
    .replace(/ ([.,;:?!%)\]}])/g, '$1')
    .replace(/([([{]) /g, '$1')
    .replace(/ (n't|'(?:s|m|d|re|ve|ll))(?![\p{L}\p{N}])/gu, '$1')
    .replace(/" ([^"]*) "/g, '"$1"')
}

/**
 * A paper of ACLSum as one row: the document is its abstract, introduction and conclusion, a paragraph each, and the
 * summary is what experts wrote on its challenge, approach and outcome, a sentence each.
 */
export function paper({ id, title, sentences, summary }) {
  const [abstract, ...rest] = ['abstract', 'introduction', 'conclusion'].map((section) => {
    return sentences[section].map((sentence) => untokenised(collapse(sentence))).join(' ')
  })
  const [challenge, approach, outcome] = ['challenge', 'approach', 'outcome'].map((aspect) => collapse(summary[aspect]))
  return {
    id,
    title,
    document: [abstract, ...rest].filter((part) => part !== '').join('\n'),
    summary: [challenge, approach, outcome].join(' '),
    abstract,
    challenge,
    approach,
    outcome,
  }
}

/** One JSON object a line. */
export function jsonl(rows) {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('')
}

/** The inverse of `jsonl`. */
export function records(lines) {
  return lines.split('\n').filter((line) => line.trim() !== '').map((line) => JSON.parse(line))
}
