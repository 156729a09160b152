// @ts-check
/**
 * Takes an export from the engine a piece at a time, in the worker: into the browser's private file system where there
 * is one, else into blobs, which the browser keeps outside the engine's memory. Either way the page gets a handle.
 *
 * @typedef {{ name: string, blob: Blob }} Exported
 * @typedef {{ write(bytes: Uint8Array, options: { at: number }): number, flush(): void, close(): void }} SyncHandle
 */

const FOLDER = 'exports';
/** An export that lies this long has been downloaded. */
const KEPT_MS = 30 * 60_000;

export class Exports {
  /** @type {FileSystemDirectoryHandle | null} */
  #folder = null;
  /** @type {{ name: string, handle: FileSystemFileHandle | null, access: SyncHandle | null, parts: Blob[], at: number } | null} */
  #file = null;
  /** @type {Exported[]} */
  #done = [];

  /** @param {number} bytes of all files */
  async begin(bytes) {
    await this.drop();
    this.#folder = await privateFolder(bytes);
  }

  /** @param {string} name @param {Uint8Array} bytes the next ones of this file */
  async write(name, bytes) {
    if (this.#file?.name !== name) {
      await this.#finish();
      this.#file = await this.#create(name);
    }
    const { access, parts, at } = this.#file;
    if (!access) parts.push(new Blob([/** @type {BlobPart} */ (bytes)]));
    else if (access.write(bytes, { at }) !== bytes.byteLength) throw new DOMException(name, 'QuotaExceededError');
    this.#file.at += bytes.byteLength;
  }

  /** @returns {Promise<Exported[]>} */
  async end() {
    await this.#finish();
    return this.#done.splice(0);
  }

  /** What was written and not handed over yet is of no use. */
  async drop() {
    this.#file?.access?.close();
    const folder = this.#file || this.#done.length ? this.#folder : null;
    this.#file = null;
    this.#done = [];
    if (folder) await (await root()).removeEntry(folder.name, { recursive: true }).catch(() => {});
  }

  /** @param {string} name */
  async #create(name) {
    const file = { name, handle: /** @type {FileSystemFileHandle | null} */ (null), access: /** @type {SyncHandle | null} */ (null), parts: /** @type {Blob[]} */ ([]), at: 0 };
    if (!this.#folder) return file;
    try {
      file.handle = await this.#folder.getFileHandle(name, { create: true });
      file.access = await /** @type {any} */ (file.handle).createSyncAccessHandle();
    } catch {
      // Some private windows have the folder and refuse the file.
      this.#folder = null;
      file.handle = null;
    }
    return file;
  }

  async #finish() {
    const file = this.#file;
    if (!file) return;
    this.#file = null;
    file.access?.flush();
    file.access?.close();
    const blob = file.handle ? await file.handle.getFile() : new Blob(file.parts);
    this.#done.push({ name: file.name, blob });
  }
}

const root = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });

/**
 * A new folder in the private file system, older ones removed; null where there is none or no room for `bytes`.
 * @param {number} bytes @returns {Promise<FileSystemDirectoryHandle | null>}
 */
async function privateFolder(bytes) {
  try {
    const all = await root();
    for await (const name of /** @type {any} */ (all).keys()) {
      // One that another tab still writes cannot be removed.
      if (Date.now() - parseInt(name, 10) > KEPT_MS) await all.removeEntry(name, { recursive: true }).catch(() => {});
    }
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    if (quota - usage < bytes * 1.1) return null;
    return await all.getDirectoryHandle(`${Date.now()}-${crypto.randomUUID()}`, { create: true });
  } catch {
    return null;
  }
}
