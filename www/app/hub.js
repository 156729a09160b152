// @ts-check
/**
 * The page's end of hub-worker.js: what is under way, what is stored, what went wrong.
 *
 * @typedef {{ repo: string, bytes: number }} Stored
 * @typedef {{ repo: string, file: string, done: number, total: number }} Progress
 * @typedef {{ models: Stored[], busy: string, progress: Progress | null, failed: { key: string, params: Record<string, any> } | null }} HubState
 */
import { recall } from './prefs.js';

const ENDPOINT = 'https://huggingface.co';
const NAME = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** A repository's name out of what a person typed or pasted; null where there is none. @param {string} text */
export function repoOf(text) {
  const name = text.trim().replace(/^https:\/\/(www\.)?(huggingface\.co|hf\.co)\//, '').replace(/\/(tree|blob)\/.*$|\/$/, '');
  return NAME.test(name) && !name.includes('..') && !name.includes('--') && name.length <= 96 ? name : null;
}

/** What a person typed or pasted as an access token, fit for a header; '' where there is none, null where it is none. @param {string} text */
export function tokenOf(text) {
  const token = text.trim();
  return /^[\x21-\x7e]{0,512}$/.test(token) ? token : null;
}

export class Hub {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {HubState} */
  state = { models: [], busy: '', progress: null, failed: null };
  #changed = () => {};
  /** @type {(folder: import('./files.js').Folder) => void} */
  #open = () => {};

  /** @param {() => void} changed @param {(folder: import('./files.js').Folder) => void} open */
  listen(changed, open) {
    this.#changed = changed;
    this.#open = open;
    if (!this.#worker) this.#send({ list: true });
  }

  /** @param {string} repo @param {string} token for gated and private models; '' without */
  fetch(repo, token) {
    const chosen = recall('hub');
    this.#set({ busy: repo, progress: null, failed: null });
    this.#send({ fetch: repo, endpoint: typeof chosen === 'string' ? chosen : ENDPOINT, token });
  }

  cancel = () => this.#send({ cancel: true });

  /** @param {string} repo */
  open = (repo) => this.#send({ open: repo });

  /** @param {string} repo */
  remove = (repo) => this.#send({ remove: repo });

  /** @param {any} message */
  #send(message) {
    if (!this.#worker) {
      this.#worker = new Worker(new URL('./hub-worker.js', import.meta.url), { type: 'module', name: 'paddock-hub' });
      this.#worker.addEventListener('message', ({ data }) => this.#hear(data));
      this.#worker.addEventListener('error', (event) => {
        event.preventDefault();
        this.#set({ busy: '', progress: null, failed: { key: 'storage', params: { reason: event.message } } });
      });
    }
    this.#worker.postMessage(message);
  }

  /** @param {any} data */
  #hear({ models, progress, opened, failed, cancelled }) {
    if (models) this.#set({ models });
    if (progress) this.#set({ progress });
    // Listing at the start is no wish of the person's: without storage there is nothing to list.
    if (failed) this.#set({ busy: '', progress: null, failed: this.state.busy || failed.key !== 'no_storage' ? failed : null });
    if (cancelled) this.#set({ busy: '', progress: null });
    if (opened) {
      this.#set({ busy: '', progress: null, failed: null });
      this.#open(opened);
    }
  }

  /** @param {Partial<HubState>} change */
  #set(change) {
    this.state = { ...this.state, ...change };
    this.#changed();
  }
}
