// The page as it is built, with the fake engine in the generated one's place.

import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT, openPage } from './harness.mjs'
import { messages } from './steps.mjs'

/** The page's own files, with the fake engine beside them. */
export async function copyPage(folder) {
  const from = join(ROOT, 'tests', 'browser')
  await cp(join(ROOT, 'www'), folder, { recursive: true })
  await cp(join(from, 'fake-engine.js'), join(folder, 'paddock-web.js'))
  await cp(join(from, 'fake-parts.js'), join(folder, 'fake-parts.js'))
}

/** A folder to serve. */
export async function site(t) {
  const folder = await mkdtemp(join(tmpdir(), 'paddock-page-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await copyPage(folder)
  await mkdir(join(folder, 'starter'))
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json']) await writeFile(join(folder, 'starter', name), '{}')
  await mkdir(join(folder, 'data'))
  await writeFile(join(folder, 'data', 'spam.csv'), messages(40).replace('id,message,kind', 'id,text,label'))
  return folder
}

export const open = async (t, options) => openPage(t, { folder: await site(t), ...options })
