// @ts-check
/**
 * A run's folder in the browser's private file system, in the worker: what the engine's `Storage` asks for. One folder a run, under
 * `runs/`; a lock with its name keeps a second tab off it.
 *
 * @typedef {{ write(bytes: Uint8Array, options: { at: number }): number, getSize(): number, flush(): void, close(): void }} SyncHandle
 */

export const FOLDER = 'runs';
/** What outlasts runs: which kernels this machine's GPU does best. */
const CACHE = 'machine';

/** @param {string} run */
export const lockOf = (run) => `paddock-run-${run}`;

export class RunStorage {
  /** @type {FileSystemDirectoryHandle} */
  #folder;
  /** The file that grows: opening it anew for each piece would take longer than writing it. @type {{ name: string, access: SyncHandle } | null} */
  #growing = null;

  /** @param {FileSystemDirectoryHandle} folder */
  constructor(folder) {
    this.#folder = folder;
  }

  /** @param {string} run */
  static async of(run) {
    const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
    return new RunStorage(await runs.getDirectoryHandle(run, { create: true }));
  }

  /** What is measured on this machine, for all runs. @returns {Promise<RunStorage | undefined>} none where there is no private file system */
  static async cache() {
    try {
      return new RunStorage(await (await navigator.storage.getDirectory()).getDirectoryHandle(CACHE, { create: true }));
    } catch {
      return undefined;
    }
  }

  /** @returns {Promise<string[]>} */
  async list() {
    const names = [];
    for await (const name of /** @type {any} */ (this.#folder).keys()) names.push(name);
    return names;
  }

  /** @param {string} name @returns {Promise<File>} */
  async open(name) {
    this.#close(name);
    return (await this.#folder.getFileHandle(name)).getFile();
  }

  /** @param {string} name @param {Uint8Array} bytes */
  async append(name, bytes) {
    if (this.#growing?.name !== name) {
      this.#close();
      const handle = await this.#folder.getFileHandle(name, { create: true });
      this.#growing = { name, access: await /** @type {any} */ (handle).createSyncAccessHandle() };
    }
    const { access } = this.#growing;
    const at = access.getSize();
    if (access.write(bytes, { at }) !== bytes.byteLength) throw new DOMException('no storage is left for this page', 'QuotaExceededError');
    // A line of the record is on its way to the disk before the next step; a checkpoint when it is renamed.
    if (!name.endsWith('.part')) access.flush();
  }

  /** @param {string} from @param {string} to */
  async rename(from, to) {
    if (this.#growing?.name === from) this.#growing.access.flush();
    this.#close(from);
    this.#close(to);
    const handle = await this.#folder.getFileHandle(from);
    await this.remove(to);
    await /** @type {any} */ (handle).move(to);
  }

  /** @param {string} name */
  async remove(name) {
    this.#close(name);
    await this.#folder.removeEntry(name).catch((error) => {
      if (error.name !== 'NotFoundError') throw error;
    });
  }

  /** @param {string} [name] that one, or whichever is open */
  #close(name) {
    if (!this.#growing || (name !== undefined && this.#growing.name !== name)) return;
    this.#growing.access.close();
    this.#growing = null;
  }

  close() {
    this.#close();
  }
}

/**
 * Keeps other tabs off a run until the function that it gives is called; null where another tab has it.
 * @param {string} run @returns {Promise<(() => void) | null>}
 */
export function hold(run) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const held = navigator.locks.request(lockOf(run), { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(null);
      return /** @type {Promise<void>} */ (new Promise((release) => resolve(() => release())));
    });
    held.catch(reject);
  });
}
