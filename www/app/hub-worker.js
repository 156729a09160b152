// @ts-check
/**
 * Fetches models from the hub into the browser's private file system (OPFS): resumed where a connection broke, checked
 * by length and hash, never fetched twice. It sends a repository's name, and the access token that a person gave, to the hub and nothing else
 * to anybody. The token is in the message that asks for a model, and stored nowhere.
 *
 * Takes `{fetch: repo, endpoint, token}`, `{cancel}`, `{list}`, `{open: repo}` and `{remove: repo}`; gives `{progress}`, `{opened}`, `{models}`, `{failed}`.
 * The folder `hub` holds `blobs/` by the hub's own names of contents and `models/` with a list of each model's files.
 *
 * @typedef {{ name: string, oid: string, size: number, sha256: string | null }} Entry
 * @typedef {{ repo: string, commit: string, files: Entry[] }} Model
 * @typedef {{ repo: string, endpoint: string, token: string, signal: AbortSignal }} Source where a model comes from; without a token it is ''
 * @typedef {{ read(into: Uint8Array, options: { at: number }): number, write(bytes: Uint8Array, options: { at: number }): number,
 *   truncate(size: number): void, getSize(): number, flush(): void, close(): void }} SyncHandle
 */
import { Sha256 } from './sha256.js';

const TEXTS = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'generation_config.json', 'tokenizer.model', 'chat_template.jinja'];
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;
/** Attempts without a single new byte before it is given up. */
const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;
const SILENCE_MS = 60_000;
const SHOWN_EVERY_MS = 200;

/** Something that a person is told by a key of the locales. */
class Trouble extends Error {
  /** @param {string} key @param {Record<string, any>} [params] */
  constructor(key, params = {}) {
    super(key);
    this.key = key;
    this.params = params;
  }
}

/** @type {AbortController | null} */
let running = null;
const post = (/** @type {any} */ message, /** @type {Transferable[]} */ transfer = []) => /** @type {any} */ (self).postMessage(message, transfer);

self.addEventListener('message', async ({ data }) => {
  try {
    if (data.cancel) running?.abort();
    else if (data.list) post({ models: await list() });
    else if (data.open) post({ opened: await opened(await model(data.open)) });
    else if (data.remove) post({ models: await remove(data.remove) });
    else if (data.fetch && !running) {
      running = new AbortController();
      const source = { repo: data.fetch, endpoint: data.endpoint, token: data.token ?? '', signal: running.signal };
      post({ opened: await opened(await fetchModel(source)), models: await list() });
    }
  } catch (error) {
    if (running?.signal.aborted) post({ cancelled: true });
    else if (error instanceof Trouble) post({ failed: { key: error.key, params: error.params } });
    else post({ failed: { key: storageFault(error), params: { reason: String(error) } } });
  } finally {
    if (data.fetch) running = null;
  }
});

/** @param {unknown} error */
function storageFault(error) {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'QuotaExceededError') return 'no_room';
  if (name === 'NoModificationAllowedError') return 'in_use';
  return ['SecurityError', 'NotAllowedError'].includes(name) ? 'no_storage' : 'storage';
}

async function folders() {
  if (!navigator.storage?.getDirectory) throw new Trouble('no_storage');
  const hub = await (await navigator.storage.getDirectory()).getDirectoryHandle('hub', { create: true });
  return { blobs: await hub.getDirectoryHandle('blobs', { create: true }), models: await hub.getDirectoryHandle('models', { create: true }) };
}

/** @param {string} repo */
const listName = (repo) => `${repo.replace('/', '--')}.json`;

/** @returns {Promise<Model[]>} */
async function models() {
  const { models } = await folders();
  /** @type {Model[]} */
  const all = [];
  for await (const handle of /** @type {any} */ (models).values()) {
    try {
      all.push(JSON.parse(await (await handle.getFile()).text()));
    } catch {
      // A list that was cut off while it was written: its model is fetched anew, by what blobs there are.
    }
  }
  return all;
}

async function list() {
  const all = await models();
  return all.map(({ repo, files }) => ({ repo, bytes: files.reduce((sum, { size }) => sum + size, 0) })).sort((a, b) => a.repo.localeCompare(b.repo));
}

/** @param {string} repo */
async function model(repo) {
  const found = (await models()).find((one) => one.repo === repo);
  if (!found) throw new Trouble('gone', { repo });
  return found;
}

/** Handles to a model's files under their names. @param {Model} model */
async function opened({ repo, files }) {
  const { blobs } = await folders();
  return {
    name: repo,
    files: await Promise.all(
      files.map(async ({ name, oid }) => {
        const file = await (await blobs.getFileHandle(oid)).getFile();
        // A file made of a file is a handle too: nothing is read.
        return new File([file], name);
      }),
    ),
  };
}

/** @param {string} repo */
async function remove(repo) {
  const { blobs, models: lists } = await folders();
  await lists.removeEntry(listName(repo)).catch(() => {});
  const kept = new Set((await models()).flatMap(({ files }) => files.map(({ oid }) => oid)));
  /** @type {string[]} */
  const names = [];
  for await (const name of /** @type {any} */ (blobs).keys()) names.push(name);
  // One that another tab still writes stays.
  for (const name of names) if (!kept.has(name)) await blobs.removeEntry(name).catch(() => {});
  return list();
}

/** @param {Source} source @returns {Promise<Model>} */
async function fetchModel(source) {
  const { repo, endpoint } = source;
  const { commit, files } = await describe(source);
  const { blobs, models: lists } = await folders();
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const there = await Promise.all(files.map(({ oid, size }) => sizeOf(blobs, oid).then((own) => (own === size ? size : sizeOf(blobs, `${oid}.part`)))));
  const missing = total - there.reduce((sum, size) => sum + size, 0);
  const { quota = Infinity, usage = 0 } = await navigator.storage.estimate();
  if (missing > quota - usage) throw new Trouble('no_room', { need: missing, free: quota - usage });
  // Asked once; without it the browser may clear what was fetched when the disk gets full.
  await navigator.storage.persist?.().catch(() => false);
  let before = 0;
  let shown = 0;
  for (const file of files) {
    /** @param {number} at */
    const progress = (at) => {
      if (performance.now() - shown < SHOWN_EVERY_MS && before + at < total) return;
      shown = performance.now();
      post({ progress: { repo, file: file.name, done: before + at, total } });
    };
    const url = `${endpoint}/${repo}/resolve/${commit}/${file.name}`;
    if ((await sizeOf(blobs, file.oid)) !== file.size) await fetchFile(url, file, blobs, source, progress);
    before += file.size;
    progress(0);
  }
  const model = { repo, commit, files };
  const handle = await lists.getFileHandle(listName(repo), { create: true });
  const access = await /** @type {Promise<SyncHandle>} */ (/** @type {any} */ (handle).createSyncAccessHandle());
  access.truncate(0);
  access.write(new TextEncoder().encode(JSON.stringify(model)), { at: 0 });
  access.flush();
  access.close();
  return model;
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function sizeOf(folder, name) {
  try {
    return (await (await folder.getFileHandle(name)).getFile()).size;
  } catch {
    return 0;
  }
}

/** The commit, and the files that are wanted. @param {Source} source */
async function describe(source) {
  const { repo, endpoint, signal } = source;
  const response = await get(`${endpoint}/api/models/${repo}/revision/main?blobs=true`, {}, source, signal).catch((error) => {
    throw signal.aborted ? error : new Trouble('unreachable', { host: new URL(endpoint).host });
  });
  if (!response.ok) throw refusal(response, source);
  /** @type {any} */
  const json = await response.json().catch(() => null);
  if (!/^[0-9a-f]{40}$/.test(json?.sha ?? '') || !Array.isArray(json.siblings)) throw new Trouble('no_hub', { host: new URL(endpoint).host });
  /** @type {Entry[]} */
  const all = json.siblings.map((/** @type {any} */ file) => {
    const sha256 = file.lfs?.sha256 ?? null;
    return { name: String(file.rfilename), oid: String(sha256 ?? file.blobId), size: Number(file.lfs?.size ?? file.size), sha256 };
  });
  const named = (/** @type {string} */ name) => all.filter((file) => file.name === name);
  const whole = named('model.safetensors');
  const weights = whole.length ? whole : [...named('model.safetensors.index.json'), ...all.filter(({ name }) => SHARD.test(name))];
  const files = [...TEXTS.flatMap(named), ...weights];
  const good = files.every(({ oid, size }) => /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(oid) && Number.isSafeInteger(size) && size >= 0);
  if (!good) throw new Trouble('no_hub', { host: new URL(endpoint).host });
  if (!named('config.json').length || !weights.length) throw new Trouble('no_model', { repo });
  return { commit: /** @type {string} */ (json.sha), files };
}

/**
 * Of the hub itself: where it sends the browser on to another host, the browser leaves the token out (the Fetch standard, HTTP-redirect fetch).
 * @param {string} url @param {Record<string, string>} headers @param {Source} source @param {AbortSignal} signal
 */
function get(url, headers, { token }, signal) {
  const own = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(url, { headers: { ...headers, ...own }, signal, credentials: 'omit', cache: 'no-store', referrerPolicy: 'no-referrer' });
}

/** @param {Response} response @param {Source} source */
function refusal({ status, headers, url }, { repo, endpoint, token }) {
  const code = headers.get('x-error-code');
  const host = new URL(endpoint).host;
  // What the hub keeps files at knows nothing of models and their readers.
  if (new URL(url).host !== host) return new Trouble('refused', { repo, status });
  if (code === 'GatedRepo' || status === 403) return new Trouble(token ? 'gated_token' : 'gated', { repo, host });
  if (status === 401 && token && code !== 'RepoNotFound') return new Trouble('bad_token', { host });
  if (status === 401 || status === 404) return new Trouble(token ? 'not_found_token' : 'not_found', { repo, host });
  return new Trouble('refused', { repo, status });
}

/**
 * @param {string} url @param {Entry} file @param {FileSystemDirectoryHandle} blobs @param {Source} source
 * @param {(at: number) => void} progress
 */
async function fetchFile(url, file, blobs, source, progress) {
  const handle = await blobs.getFileHandle(`${file.oid}.part`, { create: true });
  /** @type {SyncHandle} Held by one tab at a time. */
  const access = await /** @type {any} */ (handle).createSyncAccessHandle();
  try {
    let restarts = 0;
    /** What is there does not go on: once more from the start, then it is given up. @param {string} reason */
    const restart = (reason) => {
      access.truncate(0);
      restarts += 1;
      if (restarts > 1) throw new Trouble('damaged', { file: file.name, reason });
    };
    if (access.getSize() > file.size) access.truncate(0);
    do {
      let idle = 0;
      while (access.getSize() < file.size) {
        const before = access.getSize();
        const reason = await receive(url, file, access, source, restart, progress);
        if (access.getSize() >= file.size) break;
        idle = access.getSize() > before ? 1 : idle + 1;
        if (idle >= ATTEMPTS) throw new Trouble('broken', { file: file.name, reason });
        await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** (idle - 1)));
        source.signal.throwIfAborted();
      }
      if ((await oidOf(access, file)) === file.oid) break;
      restart('hash');
    } while (true);
    access.flush();
  } finally {
    access.close();
  }
  await /** @type {any} */ (handle).move(file.oid);
}

/**
 * One request, from where the file ends; gives back why it ended.
 * @param {string} url @param {Entry} file @param {SyncHandle} access @param {Source} source
 * @param {(reason: string) => void} restart @param {(at: number) => void} progress
 */
async function receive(url, file, access, source, restart, progress) {
  const { signal } = source;
  const silence = new AbortController();
  const both = AbortSignal.any([signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  let at = access.getSize();
  try {
    const response = await get(url, at ? { range: `bytes=${at}-` } : {}, source, both);
    const range = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '');
    if (at && (response.status === 416 || (response.status === 206 && range && Number(range[1]) !== at))) {
      restart('range');
      return 'range';
    }
    if (response.status === 429 || response.status >= 500) return `HTTP ${response.status}`;
    if (!response.ok || !response.body) throw refusal(response, source);
    // It sends all of it: what is there is written over.
    if (at && response.status === 200) access.truncate((at = 0));
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) return at < file.size ? 'short' : '';
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      if (at + value.length > file.size) {
        await reader.cancel();
        restart('length');
        return 'length';
      }
      if (access.write(value, { at }) !== value.length) throw new DOMException(file.name, 'QuotaExceededError');
      progress((at += value.length));
    }
  } catch (error) {
    if (signal.aborted || error instanceof Trouble || (error instanceof DOMException && error.name !== 'AbortError')) throw error;
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
  }
}

/** The hub's name of a content: the SHA-256 of a large file, git's SHA-1 of a small one. @param {SyncHandle} access @param {Entry} file */
async function oidOf(access, file) {
  const part = new Uint8Array(1 << 20);
  if (file.sha256) {
    const hash = new Sha256();
    for (let at = 0; at < file.size; ) {
      const read = access.read(part, { at });
      hash.update(part.subarray(0, read));
      at += read;
    }
    return hash.hex();
  }
  const head = new TextEncoder().encode(`blob ${file.size}\0`);
  const all = new Uint8Array(head.length + file.size);
  all.set(head);
  access.read(all.subarray(head.length), { at: 0 });
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-1', all));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
