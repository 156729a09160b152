// @ts-check
/**
 * The files of a base or a plugin as a page that uses the module gives them: its own `File`s, or the address of a folder, of one file
 * or of a model on the hub. Contents go into the browser's blobs or its private file system, never into a string or an array as a whole.
 *
 * @typedef {import('./files.js').Folder} Folder
 * @typedef {import('../paddock.js').Progress} Progress
 * @typedef {{ endpoint: string, token: string | null }} HubOptions of the module: which hub, and what one is let in by
 * @typedef {{ origin: string, token: string }} Key an access token ('' without), and the one site that it is for
 * @typedef {{ signal?: AbortSignal, progress(progress: Progress): void }} Under
 * @typedef {Under & { key: Key }} With
 * @typedef {With & { most?: number, needed?: string }} Get needed: what to do where there is no such file; without it null is given
 */
import { STARTER, fromDialog } from './files.js';
import { repoOf, tokenOf } from './hub.js';
import { PaddockError, shown } from './trouble.js';

const MIB = 2 ** 20;
/** As the engine reads them: configurations and vocabularies, and an adapter. */
const MOST_TEXT = 256 * MIB;
const MOST_ADAPTER = 2048 * MIB;
/** No model that a browser can hold is larger; an answer without end has to end somewhere. */
const MOST_WEIGHTS = 65_536 * MIB;
const MOST_SHARDS = 500;
const SHARD = /^\w[\w.-]*\.safetensors$/;
/** Bytes that are handed to the browser at once. */
const PIECE = 8 * MIB;
const SHOWN_EVERY_MS = 100;

/** How servers say that there is no such file; some stores say 403 where nobody may list them. */
const MISSING = [403, 404, 410];
const MODEL_TEXTS = ['tokenizer_config.json', 'chat_template.jinja', 'generation_config.json'];
const ADAPTER_TEXTS = ['config.json', 'run.yaml', 'metrics.json', 'plugin.json'];
const FOLDER = "Give the address of a model's folder (config.json, tokenizer.json, model.safetensors), or of a .gguf file.";
const PLUGIN = 'Give the address of a folder with adapter_config.json and adapter_model.safetensors, or of a .zip of it.';
const WHOLE = "Serve the whole of the built folder, `starter` with it, or name another base.";
const TOKEN_NEEDED = 'It is private or gated, or there is no such model: check the address, accept the conditions on its page, and give an access token of the hub as `token`.';
const TOKEN_DENIED = "The hub does not let this token read it: accept the conditions on the model's page with the token's account, and see that the token is whole, not expired, and may read it.";
const HUB_SITE = 'https://huggingface.co';
const UNREACHABLE = 'Check address and connection. A server of another site has to allow this page to read it (CORS: Access-Control-Allow-Origin).';

/**
 * A base model's files.
 * @param {unknown} base @param {Under & HubOptions} how @returns {Promise<Folder>}
 */
export async function baseFiles(base, { endpoint, token, ...more }) {
  const how = { ...more, key: keyOf(endpoint, token) };
  if (base === 'starter') {
    const get = (/** @type {string} */ name) => fetchFile(new URL(`../starter/${name}`, import.meta.url), { ...how, needed: WHOLE });
    return { name: base, files: sure(await Promise.all(STARTER.map(get))) };
  }
  if (typeof base !== 'string' && !(base instanceof URL)) return handed(base, 'base', 'model.gguf');
  const hub = addressOf(endpoint);
  const { url, repo } = onHub(addressOf(base), hub);
  return (repo && (await fromHub(repo, hub, how))) || modelAt(url, how);
}

/**
 * A plugin's files: those of a folder, or one zip.
 * @param {unknown} source @param {Under & HubOptions} how @returns {Promise<File[]>}
 */
export async function pluginFiles(source, { endpoint, token, ...more }) {
  const how = { ...more, key: keyOf(endpoint, token) };
  if (typeof source !== 'string' && !(source instanceof URL)) return handed(source, 'plugin', 'plugin.zip').files;
  let url = addressOf(source);
  const own = globalThis.location?.origin;
  // What lies on the page's own site is meant as it stands, even where that site hands a hub's answers on.
  for (const hub of [addressOf(endpoint), addressOf(HUB_SITE)]) if (hub.origin !== own) url = onHub(url, hub).url;
  if (/\.zip$/i.test(url.pathname)) return sure([await fetchFile(url, { ...how, most: MOST_ADAPTER, needed: PLUGIN })]);
  const config = await fetchFile(inside(url, 'adapter_config.json'), { ...how, needed: PLUGIN });
  const texts = ADAPTER_TEXTS.map((name) => fetchFile(inside(url, name), how));
  const weights = fetchFile(inside(url, 'adapter_model.safetensors'), { ...how, most: MOST_ADAPTER, needed: PLUGIN });
  return sure([config, ...(await Promise.all([...texts, weights]))]);
}

/** @param {URL} url @param {With} how @returns {Promise<Folder>} */
async function modelAt(url, how) {
  const name = lastOf(url);
  if (/\.gguf$/i.test(name)) return { name, files: sure([await fetchFile(url, { ...how, most: MOST_WEIGHTS, needed: FOLDER })]) };
  if (/\.(safetensors|json|model|bin|pth?|ckpt|zip|tar|t?gz)$/i.test(name)) throw new PaddockError(`${plain(url)} is one file, and no .gguf.`, FOLDER);
  const config = await fetchFile(inside(url, 'config.json'), { ...how, needed: FOLDER });
  const texts = await Promise.all(MODEL_TEXTS.map((text) => fetchFile(inside(url, text), how)));
  const tokenizer = (await fetchFile(inside(url, 'tokenizer.json'), how)) ?? (await fetchFile(inside(url, 'tokenizer.model'), how));
  if (!tokenizer) throw new PaddockError(`${plain(url)} has neither tokenizer.json nor tokenizer.model.`, FOLDER);
  const whole = await fetchFile(inside(url, 'model.safetensors'), { ...how, most: MOST_WEIGHTS });
  return { name, files: sure([config, ...texts, tokenizer, ...(whole ? [whole] : await shardsAt(url, how))]) };
}

/** Weights in several files, with the index that names them. @param {URL} url @param {With} how */
async function shardsAt(url, how) {
  const index = await fetchFile(inside(url, 'model.safetensors.index.json'), how);
  if (!index) throw new PaddockError(`${plain(url)} has neither model.safetensors nor model.safetensors.index.json.`, FOLDER);
  const where = plain(inside(url, index.name));
  /** @type {unknown} */
  const map = await index.text().then(JSON.parse).then((json) => json?.weight_map, () => null);
  if (!map || typeof map !== 'object') throw new PaddockError(`${where} has no weight_map.`, 'Take the index that came with the model.');
  const names = [...new Set(Object.values(map))];
  // What an index names becomes a part of an address.
  const odd = names.find((name) => typeof name !== 'string' || !SHARD.test(name));
  if (odd !== undefined) throw new PaddockError(`${where} names ${shown(odd)}, which is no safetensors file beside it.`, 'Take the index that came with the model.');
  if (names.length > MOST_SHARDS) throw new PaddockError(`${where} names ${names.length} files; at most ${MOST_SHARDS} are fetched.`, 'Store the model in fewer files.');
  const files = [index];
  // One at a time: several would only share the line.
  for (const name of names) files.push(...sure([await fetchFile(inside(url, name), { ...how, most: MOST_WEIGHTS, needed: 'Put all files that the index names beside it.' })]));
  return files;
}

/**
 * One file, streamed into a blob.
 * @param {URL} url @param {Get} how @returns {Promise<File | null>} null where it is missing and may be
 */
async function fetchFile(url, { signal, progress, key, needed, most = MOST_TEXT }) {
  const [where, name] = [plain(url), lastOf(url)];
  // Where the hub sends the browser on to another site, the browser leaves the token out.
  const headers = key.token && url.origin === key.origin ? { authorization: `Bearer ${key.token}` } : undefined;
  const response = await fetch(url, { signal, headers }).catch((error) => {
    signal?.throwIfAborted();
    throw new PaddockError(`${where} cannot be reached.`, UNREACHABLE, error);
  });
  /** @param {string} message @param {string} advice @returns {Promise<never>} */
  const refuse = async (message, advice) => {
    await response.body?.cancel().catch(() => {});
    throw new PaddockError(`${where}${message}`, advice);
  };
  // Told as such even where the file may be missing: who may not read one may read none.
  const denied = response.status === 401 || (headers && response.status === 403);
  if (denied && new URL(response.url).origin === key.origin) return refuse(`: HTTP ${response.status}`, headers ? TOKEN_DENIED : TOKEN_NEEDED);
  // Many servers answer what they do not have with their start page.
  const page = /^text\/html\b/i.test(response.headers.get('content-type') ?? '');
  if (needed === undefined && (MISSING.includes(response.status) || (response.ok && page))) {
    await response.body?.cancel().catch(() => {});
    return null;
  }
  if (!response.ok) return refuse(`: HTTP ${response.status}`, (MISSING.includes(response.status) && needed) || 'Try again later, or see why the server refuses it.');
  if (page) return refuse(' is a web page (text/html).', needed ?? FOLDER);
  if (!response.body) return refuse(' is empty.', needed ?? FOLDER);
  const total = Number(response.headers.get('content-length')) || 0;
  const tooLarge = ` is larger than ${most / MIB} MiB.`;
  if (total > most) return refuse(tooLarge, 'See that the address is that of the right file.');
  /** What came, in pieces that the browser keeps outside this page's memory. @type {Blob[]} */
  const pieces = [];
  /** @type {BlobPart[]} */
  let chunks = [];
  let [done, held, told] = [0, 0, 0];
  const put = () => {
    pieces.push(new Blob(chunks));
    [chunks, held] = [[], 0];
  };
  for (const reader = response.body.getReader(); ; ) {
    const { value } = await reader.read().catch((error) => {
      signal?.throwIfAborted();
      throw new PaddockError(`${where} broke off after ${done} bytes.`, 'Try again, over another connection where it breaks off again.', error);
    });
    if (!value) break;
    done += value.length;
    if (done > most) {
      await reader.cancel().catch(() => {});
      throw new PaddockError(`${where}${tooLarge}`, 'See that the address is that of the right file.');
    }
    chunks.push(value);
    held += value.length;
    if (held >= PIECE) put();
    if (performance.now() - told < SHOWN_EVERY_MS) continue;
    told = performance.now();
    // What is packed for the way has another length than what comes out of it.
    progress({ phase: 'fetching', file: name, done, total: done > total ? 0 : total });
  }
  put();
  progress({ phase: 'fetching', file: name, done, total: done });
  return new File(pieces, name);
}

/**
 * A model of the hub through hub-worker.js: stored, checked, gone on with where it broke off, and never fetched twice.
 * @param {string} repo @param {URL} endpoint @param {With} how
 * @returns {Promise<Folder | null>} null where the browser stores nothing for this page
 */
function fromHub(repo, endpoint, { signal, progress, key }) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const worker = new Worker(new URL('./hub-worker.js', import.meta.url), { type: 'module', name: 'paddock-hub' });
    const abort = () => settle(() => reject(signal?.reason));
    /** @param {() => void} how */
    const settle = (how) => {
      // What has come so far stays and is gone on with.
      worker.terminate();
      signal?.removeEventListener('abort', abort);
      how();
    };
    signal?.addEventListener('abort', abort, { once: true });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      settle(() => reject(new PaddockError(`The worker that fetches models failed: ${event.message || 'app/hub-worker.js could not be loaded'}`, WHOLE)));
    });
    worker.addEventListener('message', ({ data }) => {
      if (data.progress) progress({ phase: 'fetching', file: data.progress.file, done: data.progress.done, total: data.progress.total });
      else if (data.opened) settle(() => resolve(data.opened));
      else if (data.failed?.key === 'no_storage') settle(() => resolve(null));
      else if (data.failed) settle(() => reject(hubError(data.failed.key, data.failed.params)));
    });
    worker.postMessage({ fetch: repo, endpoint: plain(endpoint).replace(/\/$/, ''), token: key.token });
  });
}

/** What hub-worker.js says by a key, and what to do. @type {Record<string, [message: string, advice: string]>} */
const HUB = {
  unreachable: ['{host} cannot be reached.', 'Check the connection; what has come so far is kept.'],
  no_hub: ['{host} does not answer as a model hub does.', 'Check the endpoint.'],
  not_found: ['There is no public model {repo}.', 'Check the name; give `token` for a private one, or its files once they are downloaded.'],
  not_found_token: ['There is no model {repo} that this token may read.', 'Check the name, and that the token may read it.'],
  gated: ['{repo} is gated: its owner gives access on request.', 'Accept its conditions at {host}/{repo}, then give an access token as `token`, or its files once they are downloaded.'],
  gated_token: ['This token may not read {repo}.', "Accept its conditions at {host}/{repo} with the token's account, or give the token the right to read gated models."],
  bad_token: ['{host} does not take this access token.', 'It is mistyped, expired or withdrawn: make a new one at {host}/settings/tokens.'],
  refused: ['The hub refuses {repo} ({status}).', 'Try again later.'],
  no_model: ['{repo} holds no LLaMA folder: config.json and weights as safetensors are needed.', 'Take another model, or the address of one of its .gguf files.'],
  broken: ['The connection broke again and again at {file}.', 'Try again: it goes on from there.'],
  damaged: ['{file} came damaged and was thrown away.', 'Try again later, or over another connection.'],
  no_room: ['The browser has too little room for the model.', 'Free some disk space, or remove other models of this site.'],
  in_use: ['Another tab is fetching the same file.', 'Wait until it has ended.'],
  storage: ["The browser's storage failed: {reason}", 'Reload the page, or take a window that is not private.'],
};

/** @param {string} key @param {Record<string, unknown>} params */
function hubError(key, params) {
  const [message, advice] = HUB[key] ?? [`The model could not be fetched (${key}).`, 'Try again later.'];
  const filled = (/** @type {string} */ text) => text.replace(/\{(\w+)\}/g, (whole, name) => String(params[name] ?? whole));
  return new PaddockError(filled(message), filled(advice));
}

/**
 * Which model of the hub an address names; its pages name files that lie elsewhere.
 * @param {URL} url @param {URL} hub @returns {{ url: URL, repo: string | null }}
 */
function onHub(url, hub) {
  const [owner, name, kind, revision, ...path] = url.pathname.split('/').filter(Boolean);
  const repo = url.origin === hub.origin && name ? repoOf(`${owner}/${name}`) : null;
  if (!repo) return { url, repo: null };
  // The worker stores the branch `main`; other branches, folders and files are fetched as from any server.
  const main = !kind || (kind === 'tree' && revision === 'main' && !path.length);
  if (!main && kind !== 'tree' && kind !== 'blob') return { url, repo: null };
  const resolved = new URL(`/${[repo, 'resolve', revision ?? 'main', ...path].join('/')}`, hub);
  return { url: resolved, repo: main ? repo : null };
}

/** `File`s that the page has. @param {unknown} given @param {string} what @param {string} nameless @returns {Folder} */
function handed(given, what, nameless) {
  const advice = `Give the ${what} as an address, a File, or a list of a folder's files.`;
  if (isBlob(given)) return { name: '', files: [isFile(given) ? given : new File([given], nameless)] };
  const list = given && typeof given === 'object' && Symbol.iterator in given ? [.../** @type {Iterable<unknown>} */ (given)] : null;
  if (!list) throw new PaddockError(`${what}: expected files, got ${shown(given)}.`, advice);
  if (!list.length) throw new PaddockError(`${what}: the list of files is empty.`, advice);
  const odd = list.findIndex((file) => !isFile(file));
  if (odd >= 0) throw new PaddockError(`${what}: entry ${odd + 1} of the list is no File but ${shown(list[odd])}.`, advice);
  return fromDialog(/** @type {File[]} */ (list));
}

/** @param {string} endpoint @param {string | null} token @returns {Key} */
function keyOf(endpoint, token) {
  const own = tokenOf(token ?? '');
  // Never shown, not even a wrong one: messages end in logs.
  if (own === null) throw new PaddockError('token: expected an access token of the hub, which is one word without spaces.', 'Copy it again: it looks like hf_…');
  return { origin: addressOf(endpoint).origin, token: own };
}

// By their names: those of another frame are no instances of this one's classes.
const tagOf = (/** @type {unknown} */ value) => Object.prototype.toString.call(value);
/** @param {unknown} value @returns {value is File} */
const isFile = (value) => tagOf(value) === '[object File]';
/** @param {unknown} value @returns {value is Blob} */
const isBlob = (value) => isFile(value) || tagOf(value) === '[object Blob]';

/** Those that are there. @param {Array<File | null>} files */
const sure = (files) => files.filter((file) => file !== null);

/** Relative ones are the page's. @param {unknown} given */
function addressOf(given) {
  /** @type {URL} */
  let url;
  try {
    url = new URL(String(given), globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (error) {
    throw new PaddockError(`${shown(given)} is no address.`, 'Give one such as https://example.org/models/mine/.', error);
  }
  if (!/^https?:$/.test(url.protocol)) throw new PaddockError(`${shown(given)}: addresses of ${url.protocol} are not fetched.`, 'Give one of http: or https:, or the files themselves.');
  if (url.username || url.password) throw new PaddockError(`${plain(url)}: an address with a name or password in it is not fetched.`, 'Fetch it yourself, and give the files.');
  url.hash = '';
  return url;
}

/** A file of a folder, with what the folder's address asks for behind its `?`. @param {URL} folder @param {string} name */
function inside(folder, name) {
  const url = new URL(folder);
  url.pathname = `${url.pathname.replace(/\/$/, '')}/${encodeURIComponent(name)}`;
  return url;
}

/** For messages: what stands behind the `?` may be a key. @param {URL} url */
const plain = (url) => url.origin + url.pathname;

/** @param {URL} url */
function lastOf(url) {
  const last = url.pathname.split('/').filter(Boolean).at(-1) ?? url.host;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}
