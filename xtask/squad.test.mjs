import assert from 'node:assert/strict'
import { test } from 'node:test'
import { split, squad, squadFile } from './squad.mjs'

const TEXT = 'Fellow citizens: The 😀 fleet left Norfolk on May 3. It has 30 ships, and 3 of them carry mail. Peace reigns.'
const SPEECHES = new Map([['1800_a', TEXT], ['1900_b', 'We bought the islands in 1867 from Russia.']])
const line = (change) => JSON.stringify({
  speech: '1800_a', from: 'The 😀 fleet', to: 'carry mail.', question: 'How many carry mail?', answers: ['3 of them'], ...change,
})

test('pairs become articles, passages and answers with their places', () => {
  const lines = [
    line({ speech: '1900_b', from: 'We bought', to: 'Russia.', question: 'When?', answers: ['1867', 'in 1867'] }),
    line({}),
    line({ question: 'Which port did it leave?', answers: ['Norfolk'] }),
    '',
  ].join('\n')
  const articles = squad(lines, SPEECHES)
  assert.deepEqual(articles.map(({ title }) => title), ['1800_a', '1900_b'])
  const [{ context, qas }, ...others] = articles[0].paragraphs
  assert.equal(others.length, 0)
  assert.equal(context, 'The 😀 fleet left Norfolk on May 3. It has 30 ships, and 3 of them carry mail.')
  assert.deepEqual(qas.map(({ id }) => id), ['1800_a-1', '1800_a-2'])
  for (const { text, answer_start } of qas.flatMap(({ answers }) => answers)) {
    assert.equal(Array.from(context).slice(answer_start, answer_start + text.length).join(''), text)
  }
  assert.deepEqual(JSON.parse(squadFile(articles)), { version: '1.1', data: articles })
})

test('an answer is found as whole words, not inside a number', () => {
  const find = (answer) => squad(line({ answers: [answer] }), SPEECHES)[0].paragraphs[0].qas[0].answers[0].answer_start
  assert.equal(find('3'), 32)
  assert.equal(find('30'), 42)
  assert.throws(() => find('Norf'), /line 1: the passage does not have the answer "Norf" as whole words/)
})

test('a mistake in the file is named with its line', () => {
  const refused = (change, message) => assert.throws(() => squad(`${line({})}\n${line({ question: 'Why?', ...change })}`, SPEECHES), message)
  refused({ speech: '1801_a' }, /line 2: the package has no speech 1801_a/)
  refused({ from: 'No such words' }, /line 2: the speech does not have the words "No such words"/)
  refused({ from: 'e' }, /line 2: the speech has the words "e" more than once/)
  refused({ to: 'Fellow citizens' }, /line 2: .*"Fellow citizens" after "The 😀 fleet"/)
  refused({ answers: [] }, /line 2: one to three answers/)
  refused({ answers: [' '] }, /line 2: an answer is not a text/)
  refused({ question: 7 }, /line 2: "question" is not a text/)
  refused({ question: 'How many carry mail?' }, /line 2: the question is asked twice/)
  assert.throws(() => squad('{', SPEECHES), /line 1: /)
  const long = new Map([['1800_a', `Begin here ${'word '.repeat(90)}end.`]])
  assert.throws(() => squad(line({ from: 'Begin here', to: 'end.' }), long), /the passage has 93 words, 90 at most/)
})

test('no speech is on both sides, and a quarter is held out', () => {
  const articles = Array.from({ length: 12 }, (_, index) => ({ title: `s${index}` }))
  const { train, valid } = split(articles)
  assert.deepEqual(valid.map(({ title }) => title), ['s3', 's7', 's11'])
  assert.equal(train.length, 9)
  assert.ok(train.every((article) => !valid.includes(article)))
})
