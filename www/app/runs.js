// @ts-check
/**
 * Runs that the private file system holds, seen from the page: begun with the files they need, listed after a reload, forgotten.
 *
 * @typedef {{ kind: 'starter' | 'hub' | 'files', name: string }} ModelOrigin
 * @typedef {{ model: ModelOrigin, data: string[], begun: number }} Meta data: names of the training and the held-out file
 * @typedef {{ run: string, meta: Meta, step: number, total: number, saved: number, elsewhere: boolean }} CutRun
 * @typedef {import('../protocol.js').Envelope} Envelope
 */
import { FOLDER, lockOf } from './run-storage.js';

const META = 'page.json';
/** The file system's own names are not for a person's file names. @param {number} i */
const dataFile = (i) => `data-${i}`;
/** More events than that are not drawn again. */
const MOST_EVENTS = 64 << 20;

const root = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
const read = async (folder, name) => (await folder.getFileHandle(name)).getFile();

/** @param {FileSystemDirectoryHandle} folder @param {string} name @param {Blob | string} content */
async function write(folder, name, content) {
  const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
  await stream.write(content);
  await stream.close();
}

/**
 * A folder for a new run, with copies of its data: after a reload the page may not read a person's files again. Null where the browser
 * has no private file system or no room.
 * @param {ModelOrigin} model @param {File[]} data @returns {Promise<string | null>}
 */
export async function begin(model, data) {
  const run = `${Date.now()}-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await forgetFinished();
    // Else the browser may throw everything away when the disk is nearly full. It may say no, and the run goes on.
    await navigator.storage.persist?.();
    const folder = await (await root()).getDirectoryHandle(run, { create: true });
    for (const [i, file] of data.entries()) await write(folder, dataFile(i), file);
    /** @type {Meta} */
    const meta = { model, data: data.map(({ name }) => name), begun: Date.now() };
    await write(folder, META, JSON.stringify(meta));
    return run;
  } catch {
    await forget(run);
    return null;
  }
}

/** Runs that have a checkpoint and no result, the newest first. @returns {Promise<CutRun[]>} */
export async function cutRuns() {
  /** @type {CutRun[]} */
  const found = [];
  try {
    const all = await root();
    const held = new Set(((await navigator.locks?.query())?.held ?? []).map(({ name }) => name));
    for await (const run of /** @type {any} */ (all).keys()) {
      const one = await cutRun(await all.getDirectoryHandle(run), run).catch(() => null);
      if (one) found.push({ ...one, elsewhere: held.has(lockOf(run)) });
    }
  } catch {
    // No private file system: no runs.
  }
  return found.sort((a, b) => b.meta.begun - a.meta.begun);
}

/** @param {FileSystemDirectoryHandle} folder @param {string} run @returns {Promise<Omit<CutRun, 'elsewhere'> | null>} */
async function cutRun(folder, run) {
  const names = [];
  for await (const name of /** @type {any} */ (folder).keys()) names.push(String(name));
  const saved = Math.max(...names.map((name) => Number(/^checkpoint-(\d+)\.sha256$/.exec(name)?.[1] ?? NaN)).filter(Number.isFinite));
  if (names.includes('result.json') || !names.includes(META) || !Number.isFinite(saved)) return null;
  const meta = JSON.parse(await (await read(folder, META)).text());
  if (!meta?.model?.name || !Array.isArray(meta.data)) return null;
  const last = (await events(folder)).filter((event) => event.type === 'step').at(-1);
  return { run, meta, saved, step: last?.step ?? saved, total: last?.total_steps ?? 0 };
}

/** @param {FileSystemDirectoryHandle} folder @returns {Promise<Envelope[]>} */
async function events(folder) {
  const file = await read(folder, 'events.jsonl').catch(() => null);
  if (!file || file.size > MOST_EVENTS) return [];
  // The last line may have been cut off with the run.
  return (await file.text()).split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/**
 * What is needed to go on: the data's files under their own names, the settings, and what happened so far.
 * @param {CutRun} run @returns {Promise<{ data: File[], settings: File, events: Envelope[] }>}
 */
export async function reopen({ run, meta }) {
  const folder = await (await root()).getDirectoryHandle(run);
  const data = await Promise.all(meta.data.map(async (name, i) => new File([await read(folder, dataFile(i))], name)));
  const settings = new File([await read(folder, 'run.yaml')], 'run.yaml');
  return { data, settings, events: await events(folder) };
}

/** @param {string} run */
export async function forget(run) {
  await root().then((all) => all.removeEntry(run, { recursive: true })).catch(() => {});
}

/** What has ended well was exported or is in the engine: its checkpoints only take room. A run without one is of no use either. */
async function forgetFinished() {
  const cut = new Set((await cutRuns()).map(({ run }) => run));
  const held = new Set(((await navigator.locks?.query())?.held ?? []).map(({ name }) => name));
  for await (const run of /** @type {any} */ (await root()).keys()) if (!cut.has(run) && !held.has(lockOf(run))) await forget(run);
}
