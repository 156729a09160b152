import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  balanced, collapse, csv, cut, decode, heldOut, jsonl, mailText, paper, records, scored, shuffle, untokenised, withoutRepeats,
} from './text.mjs'

const mail = (text) => Buffer.from(text, 'latin1')

test('headers go, the subject stays as the first line', async () => {
  const text = await mailText(mail('From: a@b.example\nReceived: by c\n\tfor <d>\nSubject: Two\n words\n\nBody  one\n\nBody two\n'))
  assert.equal(text, 'Two words\nBody one Body two')
})

test('markup and links become their text, whatever the content type claims', async () => {
  const page = '<html><style>p{color:red}</style><body><p>Buy <a href="http://x.example/">now</a> &amp; save</p><img alt="x"></body></html>'
  for (const type of ['text/html', 'text/plain']) {
    assert.equal(await mailText(mail(`Subject: s\nContent-Type: ${type}\n\n${page}`)), 's\nBuy now & save')
  }
})

test('base64 and quoted-printable parts are decoded, attachments left out', async () => {
  const text = await mailText(mail([
    'Subject: =?iso-8859-1?Q?caf=E9?=', 'MIME-Version: 1.0', 'Content-Type: multipart/mixed; boundary=B', '',
    '--B', 'Content-Type: text/plain; charset=utf-8', 'Content-Transfer-Encoding: base64', '', Buffer.from('naïve').toString('base64'),
    '--B', 'Content-Type: application/octet-stream', 'Content-Disposition: attachment; filename=x', '', 'secret', '--B--', ''].join('\n')))
  assert.equal(text, 'café\nnaïve')
})

test('eight-bit text without a charset is read as Latin-1', async () => {
  assert.equal(await mailText(mail('Subject: prix \xe9lev\xe9\n\n\xa35 la pi\xe8ce\n')), 'prix élevé\n£5 la pièce')
  assert.equal(decode(Buffer.from('£5')), '£5')
  assert.equal(decode(mail('\xa35')), '£5')
})

test('a message with nothing in it is empty', async () => {
  assert.equal(await mailText(mail('From: a@b.example\n\n \n')), '')
})

test('control characters and runs of whitespace collapse', () => {
  assert.equal(collapse(' a\u0000b\t\r\n\u00a0 c\u007f'), 'a b c')
})

test('a cut keeps whole characters and prefers a space', () => {
  assert.equal(cut('one two three', 9), 'one two')
  assert.equal(cut('😀😀😀', 2), '😀😀')
  assert.equal(cut('short', 9), 'short')
})

test('the same seed gives the same sample, and each label its share', () => {
  const rows = Array.from({ length: 50 }, (_, i) => ({ text: `t${i}`, label: i < 30 ? 'ham' : 'spam' }))
  const sample = balanced(rows, 10, 7)
  assert.deepEqual(sample, balanced(rows, 10, 7))
  assert.notDeepEqual(sample, balanced(rows, 10, 8))
  assert.equal(sample.filter(({ label }) => label === 'ham').length, 10)
  assert.equal(new Set(sample.map(({ text }) => text)).size, 20)
  assert.throws(() => balanced(rows, 21, 7), /only 20 rows have the label spam/)
  assert.deepEqual(shuffle([1, 2, 3, 4], 1).sort(), [1, 2, 3, 4])
})

test('held-out rows are balanced, and every other row is left to train on', () => {
  const rows = Array.from({ length: 50 }, (_, i) => ({ text: `t${i}`, label: i < 30 ? 'ham' : 'spam' }))
  const { train, valid } = heldOut(rows, 5, 7)
  assert.deepEqual({ train, valid }, heldOut(rows, 5, 7))
  for (const label of ['ham', 'spam']) assert.equal(valid.filter((row) => row.label === label).length, 5)
  assert.equal(train.length, 40)
  assert.equal(new Set([...train, ...valid]).size, 50)
  assert.notDeepEqual(train.map(({ text }) => text), rows.filter((row) => !valid.includes(row)).map(({ text }) => text))
})

test('only the first of equal texts stays', () => {
  assert.deepEqual(withoutRepeats([{ text: 'a', label: 'x' }, { text: 'a', label: 'y' }]), [{ text: 'a', label: 'x' }])
})

test('CSV fields are quoted where they must be', () => {
  assert.equal(csv([{ text: 'say "hi", you\nthere', label: 'ham' }, { text: 'plain', label: 'spam' }]),
    'text,label\n"say ""hi"", you\nthere",ham\nplain,spam\n')
})

test('scores become labels, zero is dropped, a bad line is refused', () => {
  assert.deepEqual(scored('1\t2.5\tgood\r\n2\t-0.1\tbad\tindeed\n3\t0\tnothing\n'),
    [{ text: 'good', label: 'positive' }, { text: 'bad indeed', label: 'negative' }])
  assert.throws(() => scored('1\tx\ttext'), /not "id, score, text"/)
})

test('tokens are joined as people write them', () => {
  assert.equal(untokenised('NER ( Li et al . , 2004 ) ca n\'t beat it : 20 % .'), 'NER (Li et al., 2004) can\'t beat it: 20%.')
  assert.equal(untokenised('the user \'s " best " [ 1 ]'), 'the user\'s "best" [1]')
  assert.equal(untokenised('a \'second\' one'), 'a \'second\' one')
  assert.equal(untokenised('x " y'), 'x " y')
})

test('a paper becomes a document and its summary, nothing cut', () => {
  const row = paper({
    id: 'P1', title: 'T', summary: { challenge: 'A is hard.', approach: ' They do B.', outcome: 'C improves.' },
    sentences: { abstract: ['One .', 'Two .'], introduction: ['Three ( 3 ) .'], conclusion: [] }, highlights: {},
  })
  assert.deepEqual(row, {
    id: 'P1', title: 'T', document: 'One. Two.\nThree (3).', summary: 'A is hard. They do B. C improves.',
    abstract: 'One. Two.', challenge: 'A is hard.', approach: 'They do B.', outcome: 'C improves.',
  })
  assert.deepEqual(records(jsonl([row, row])), [row, row])
})
