// @ts-check
/**
 * Packages of plugins in the browser's private file system, so that they outlive the visit: `plugins/BASE/ID~TIME/` with the
 * package's files by number and, written last, `page.json`. A folder without it was cut off and does not count. One tab at a time
 * writes (a Web Lock).
 *
 * @typedef {{ id: string, name: string, task: string, bytes: number, files: string[], added: number }} Meta files: their own names
 * @typedef {Omit<Meta, 'files' | 'added'>} Stored
 */

const FOLDER = 'plugins';
const META = 'page.json';
const LOCK = 'paddock-plugins';
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** A longer description is none of ours. */
const MOST_META = 1 << 18;
const LONGEST = 400;
/** An adapter's folder may hold an optimizer's state too, which is of no use here. */
const PACKAGE = /\.(zip|json|ya?ml|safetensors)$/i;
/** Of a model's files: what its header and pieces from all over it say tells it from others without reading gigabytes. */
const HEAD = 64 << 10;
const PIECE = 16 << 10;
const PIECES = 16;
/** Those that decide what a token and a weight are. */
const PARTS = /\.(safetensors|gguf)$|^tokenizer\.(json|model)$|^config\.json$/i;
const MOST_PARTS = 64;

/** What the words say about a failure. @param {unknown} error @returns {'full' | 'none'} */
export const faultOf = (error) => (error instanceof DOMException && error.name === 'QuotaExceededError' ? 'full' : 'none');

/**
 * A name for the base that its files give, whatever they are called; null where they cannot be read or nothing can be stored.
 * @param {File[]} files @returns {Promise<string | null>}
 */
export async function baseOf(files) {
  if (!navigator.storage?.getDirectory || !crypto.subtle) return null;
  const parts = files.filter(({ name }) => PARTS.test(name)).slice(0, MOST_PARTS);
  try {
    const hashes = await Promise.all(parts.map(sampled));
    return parts.length ? (await sha256(new Blob(hashes.sort()))).slice(0, 40) : null;
  } catch {
    return null;
  }
}

/** @param {File} file */
async function sampled(file) {
  const step = Math.max(1, Math.floor((file.size - HEAD) / PIECES));
  const pieces = Array.from({ length: PIECES }, (_, i) => file.slice(HEAD + step * i, HEAD + step * i + PIECE));
  return sha256(new Blob([`${file.size}\n`, file.slice(0, HEAD), ...pieces, file.slice(Math.max(0, file.size - PIECE))]));
}

/** @param {Blob} blob a small one */
async function sha256(blob) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
const locked = (work) => (navigator.locks ? navigator.locks.request(LOCK, work) : work());

/** @param {string} base @param {boolean} create */
async function folderOf(base, create) {
  const all = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create });
  return all.getDirectoryHandle(base, { create });
}

/** @param {FileSystemDirectoryHandle} folder @returns {Promise<Meta>} */
async function metaOf(folder) {
  const file = await (await folder.getFileHandle(META)).getFile();
  const meta = file.size <= MOST_META ? JSON.parse(await file.text()) : null;
  const word = (/** @type {unknown} */ it) => typeof it === 'string' && it.length <= LONGEST;
  const whole = ID.test(meta?.id) && word(meta.name) && word(meta.task) && Number.isFinite(meta.bytes) && Number.isFinite(meta.added) && Array.isArray(meta.files) && meta.files.every(word);
  if (!whole) throw new Error(`${folder.name}/${META} is damaged`);
  return meta;
}

/**
 * Whole packages, of each id the newest; and the names of the other folders.
 * @param {FileSystemDirectoryHandle} all
 */
async function look(all) {
  /** @type {Map<string, { folder: FileSystemDirectoryHandle, meta: Meta }>} */
  const whole = new Map();
  const rest = [];
  for await (const folder of /** @type {any} */ (all).values()) {
    const meta = folder.kind === 'directory' ? await metaOf(folder).catch(() => null) : null;
    const other = meta && whole.get(meta.id);
    if (!meta || (other && other.meta.added >= meta.added)) rest.push(folder.name);
    else {
      if (other) rest.push(other.folder.name);
      whole.set(meta.id, { folder, meta });
    }
  }
  return { whole, rest };
}

/** What is kept for a base, the oldest first. @param {string} base @returns {Promise<Stored[]>} */
export async function stored(base) {
  try {
    const { whole } = await look(await folderOf(base, false));
    return [...whole.values()].sort((a, b) => a.meta.added - b.meta.added).map(({ meta: { id, name, task, bytes } }) => ({ id, name, task, bytes }));
  } catch {
    // Nothing was ever stored, or nothing can be.
    return [];
  }
}

/** Handles to a package's files under their names. @param {string} base @param {string} id @returns {Promise<File[]>} */
export async function filesOf(base, id) {
  const found = (await look(await folderOf(base, false))).whole.get(id);
  if (!found) throw new DOMException(id, 'NotFoundError');
  const { folder, meta } = found;
  return Promise.all(meta.files.map(async (name, i) => new File([await (await folder.getFileHandle(String(i))).getFile()], name)));
}

/**
 * Stores a package. One with its id is there until the new one is whole.
 * @param {string} base @param {{ id: string, name: string, task: string }} plugin @param {File[]} files
 */
export const keep = (base, { id, name, task }, files) =>
  locked(async () => {
    const wanted = files.filter((file) => PACKAGE.test(file.name));
    const bytes = wanted.reduce((sum, { size }) => sum + size, 0);
    const { quota = Infinity, usage = 0 } = await navigator.storage.estimate();
    if (quota - usage < bytes * 1.1) throw new DOMException(id, 'QuotaExceededError');
    // Else the browser may throw everything away when the disk is nearly full. It may say no, and the package is kept as long as it can be.
    await navigator.storage.persist?.();
    const all = await folderOf(base, true);
    const { whole, rest } = await look(all);
    for (const name of rest) await remove(all, name);
    const added = Math.max(Date.now(), (whole.get(id)?.meta.added ?? 0) + 1);
    const folder = await all.getDirectoryHandle(`${id}~${added}-${crypto.randomUUID().slice(0, 8)}`, { create: true });
    try {
      for (const [i, file] of wanted.entries()) await write(folder, String(i), file);
      await write(folder, META, JSON.stringify({ id, name: name.slice(0, LONGEST), task, bytes, files: wanted.map((file) => file.name), added }));
    } catch (error) {
      await remove(all, folder.name);
      throw error;
    }
    const after = await look(all);
    for (const name of after.rest) await remove(all, name);
  });

/** @param {string} base @param {string} id */
export const forget = (base, id) =>
  locked(async () => {
    const all = await folderOf(base, false).catch(() => null);
    if (!all) return;
    const names = [];
    for await (const name of /** @type {any} */ (all).keys()) if (name.startsWith(`${id}~`)) names.push(name);
    for (const name of names) await all.removeEntry(name, { recursive: true });
  });

/** Rubbish: where it cannot be removed it is found again next time. @param {FileSystemDirectoryHandle} all @param {string} name */
const remove = (all, name) => all.removeEntry(name, { recursive: true }).catch(() => {});

/** @param {FileSystemDirectoryHandle} folder @param {string} name @param {Blob | string} content copied by the browser, not through memory */
async function write(folder, name, content) {
  const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
  await stream.write(content);
  await stream.close();
}
