// How an export is stored in the tab: a piece at a time, in the private file system or, without one, in blobs.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { copyPage } from './fake.mjs'
import { openPage } from './harness.mjs'

/** Two files in pieces through app/exports.js, in a worker as the page's. */
const WORKER = `
import { Exports } from './app/exports.js'
self.onmessage = async ({ data: { without, announced } }) => {
  if (without) navigator.storage.getDirectory = () => Promise.reject(new DOMException('private', 'SecurityError'))
  const exports = new Exports()
  // One that is broken off leaves nothing in the next one.
  await exports.begin(10)
  await exports.write('a.bin', new Uint8Array([9, 9]))
  await exports.drop()
  await exports.begin(announced)
  for (let i = 0; i < 5; i += 1) await exports.write('a.bin', new Uint8Array(1000).fill(i))
  await exports.write('b.json', new TextEncoder().encode('{}'))
  await exports.write('empty', new Uint8Array())
  const files = await exports.end()
  let kept = 0
  if (!without) {
    const all = await (await navigator.storage.getDirectory()).getDirectoryHandle('exports')
    for await (const folder of all.values()) for await (const file of folder.values()) kept += (await file.getFile()).size
  }
  self.postMessage({ files, kept })
}
`

async function store(t, message) {
  const folder = await mkdtemp(join(tmpdir(), 'paddock-exports-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await copyPage(folder)
  await writeFile(join(folder, 'store.js'), WORKER)
  const page = await openPage(t, { folder })
  return page.evaluate(
    (message) =>
      new Promise((resolve, reject) => {
        const worker = new Worker('store.js', { type: 'module' })
        worker.onerror = (event) => reject(new Error(event.message))
        worker.onmessage = async ({ data: { files, kept } }) => {
          const read = files.map(async ({ name, blob }) => [name, [...new Uint8Array(await blob.arrayBuffer())], blob instanceof File])
          resolve({ files: await Promise.all(read), kept })
        }
        worker.postMessage(message)
      }),
    message,
  )
}

const pieces = [0, 1, 2, 3, 4].flatMap((i) => Array(1000).fill(i))
const contents = (handle) => [['a.bin', pieces, handle], ['b.json', [123, 125], handle], ['empty', [], handle]]

test('pieces become files in the private file system', async (t) => {
  const { files, kept } = await store(t, { without: false, announced: 5002 })
  assert.deepEqual(files, contents(true))
  assert.equal(kept, 5002, 'what was broken off is gone')
})

test('without a private file system, or without room in it, they become blobs', async (t) => {
  assert.deepEqual((await store(t, { without: true, announced: 5002 })).files, contents(false))
  assert.deepEqual((await store(t, { without: false, announced: 1e15 })).files, contents(false))
})
