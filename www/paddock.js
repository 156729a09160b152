// @ts-check
/**
 * Paddock in any page: a base model and the plugins that were trained on it, without the trainer's page. What it takes and gives is
 * told in paddock.d.ts. It is served unbundled, in the folder that `trunk build` makes: it finds its worker and the starter model there.
 *
 * @typedef {import('./paddock.js').Added} Added
 * @typedef {import('./paddock.js').AddOptions} AddOptions
 * @typedef {import('./paddock.js').OpenOptions} OpenOptions
 * @typedef {import('./paddock.js').PredictOptions} PredictOptions
 * @typedef {import('./paddock.js').Progress} Progress
 * @typedef {import('./paddock.js').Result} Result
 * @typedef {import('./protocol.js').Command} Command
 * @typedef {import('./protocol.js').Envelope} Envelope
 */
import { baseFiles, pluginFiles } from './app/remote.js';
import { Requests } from './app/requests.js';
import { PaddockError, shown, tell } from './app/trouble.js';

export { PaddockError };

const HUB = 'https://huggingface.co';
const DEVICES = ['auto', 'cpu', 'gpu'];
/** What `new` is called with, so that nobody else can. */
const KEY = Symbol('Paddock.open');

/** @typedef {{ expected: string, fits(value: any): boolean }} Kind */
/** @type {Record<'text' | 'whole' | 'number' | 'flag' | 'texts' | 'call' | 'signal' | 'any', Kind>} */
const KINDS = {
  text: { expected: 'a text', fits: (value) => typeof value === 'string' },
  whole: { expected: 'a whole number of at least 0', fits: (value) => Number.isSafeInteger(value) && value >= 0 },
  number: { expected: 'a number', fits: Number.isFinite },
  flag: { expected: 'true or false', fits: (value) => typeof value === 'boolean' },
  texts: { expected: 'a list of texts', fits: (value) => Array.isArray(value) && value.every(KINDS.text.fits) },
  call: { expected: 'a function', fits: (value) => typeof value === 'function' },
  signal: { expected: 'an AbortSignal', fits: (value) => typeof value?.addEventListener === 'function' && typeof value.throwIfAborted === 'function' },
  any: { expected: 'anything', fits: () => true },
};

const UNDER_WAY = /** @type {const} */ ({ signal: 'signal', onProgress: 'call' });
const OPEN = /** @type {const} */ ({ ...UNDER_WAY, base: 'any', name: 'text', device: 'text', quantization: 'text', endpoint: 'text', token: 'text' });
const ADD = /** @type {const} */ ({ ...UNDER_WAY, id: 'text', name: 'text' });
/** How answers are made; the engine knows the ranges. */
const SAMPLING = /** @type {const} */ ({
  max_new_tokens: 'whole', temperature: 'number', top_k: 'whole', top_p: 'number', min_p: 'number', repetition_penalty: 'number', seed: 'whole', stop: 'texts',
});
const PREDICT = /** @type {const} */ ({ ...UNDER_WAY, ...SAMPLING, onText: 'call', plugin: 'text', fields: 'any', apply_chat_template: 'flag' });

/** What was given, once all of it is known and of the right kind. @template T @param {T} options @param {Record<string, keyof typeof KINDS>} kinds @returns {T} */
function checked(options, kinds) {
  if (options === null || typeof options !== 'object') throw new PaddockError(`Options: expected an object, got ${shown(options)}.`, `Write { ${Object.keys(kinds)[0]}: … }.`);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (!Object.hasOwn(kinds, key)) throw new PaddockError(`${key}: there is no such option.`, `There is ${Object.keys(kinds).join(', ')}.`);
    const { expected, fits } = KINDS[kinds[key]];
    if (!fits(value)) throw new PaddockError(`${key}: expected ${expected}, got ${shown(value)}.`, `Give ${key} another value, or leave it out.`);
  }
  return options;
}

export class Paddock {
  /** @type {Requests} */
  #requests;
  /** @type {import('./protocol.js').Environment} */
  #environment;
  /** @type {import('./protocol.js').ModelSummary} */
  #model;
  /** What plugins are opened with. @type {{ device: string, quantization: string | null }} */
  #held;
  /** @type {import('./app/remote.js').HubOptions} */
  #hub;
  /** @type {import('./protocol.js').PluginInfo[]} */
  #plugins = [];
  /** Whether the engine's current model is the base by itself. */
  #bare = false;

  /**
   * @param {symbol} key @param {Requests} requests @param {import('./protocol.js').Environment} environment
   * @param {import('./protocol.js').ModelSummary} model @param {{ device: string, quantization: string | null }} held
   * @param {import('./app/remote.js').HubOptions} hub
   */
  constructor(key, requests, environment, model, held, hub) {
    if (key !== KEY) throw new PaddockError('A Paddock is not made with `new`.', 'Write `await Paddock.open({ base: "starter" })`.');
    this.#requests = requests;
    this.#environment = environment;
    this.#model = model;
    this.#held = held;
    this.#hub = hub;
  }

  /** @param {OpenOptions} [options] @returns {Promise<Paddock>} */
  static async open(options = {}) {
    const { base = 'starter', name, device = 'auto', quantization = null, endpoint, token, signal, onProgress } = checked(options, OPEN);
    if (!DEVICES.includes(device)) throw new PaddockError(`device: expected ${DEVICES.join(' or ')}, got ${shown(device)}.`, 'Leave it out to let Paddock choose.');
    const [here, there] = [globalThis.location?.origin, new URL(import.meta.url).origin];
    if (here !== there) {
      const advice = 'Copy the built folder onto the own site of the page, or let its server pass requests on to it, and import paddock.js from there.';
      throw new PaddockError(`Paddock's module comes from ${there}, the page from ${here}: browsers start workers from a page's own site alone.`, advice);
    }
    const hub = { endpoint: endpoint ?? HUB, token: token ?? null };
    signal?.throwIfAborted();
    /** @param {Progress} progress */
    const progress = (progress) => tell(onProgress, progress);
    const requests = begin();
    // What is under way ends with the first thing that goes wrong.
    const over = new AbortController();
    const either = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
    const abort = () => requests.end(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      progress({ phase: 'starting', done: 0, total: 0 });
      const [folder] = await Promise.all([baseFiles(base, { ...hub, signal: either, progress }), requests.started]);
      /** @type {import('./protocol.js').Environment} */
      const environment = await answerOf(requests, 'environment', { type: 'inspect' });
      if (device !== 'auto' && !environment.devices.some(({ id }) => id === device)) {
        throw new PaddockError(`device: there is no ${device} here.`, [...environment.notes, 'Leave `device` out to let Paddock choose.'].join(' '));
      }
      const model = await answerOf(requests, 'model_opened', { type: 'open_model', name: name || folder.name || 'base' }, folder.files);
      return new Paddock(KEY, requests, environment, model, { device, quantization }, hub);
    } catch (error) {
      over.abort();
      requests.end(new PaddockError('This Paddock could not be opened.', 'Open another one.'));
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** @param {unknown} source @param {AddOptions} [options] @returns {Promise<Added>} */
  async addPlugin(source, options = {}) {
    const { id = null, name = null, signal, onProgress } = checked(options, ADD);
    signal?.throwIfAborted();
    const fetched = pluginFiles(source, { ...this.#hub, signal, progress: (progress) => tell(onProgress, progress) });
    fetched.catch(() => {});
    return this.#requests.inTurn(async () => {
      const files = await fetched;
      const before = new Set(this.#plugins.map((plugin) => plugin.id));
      const { warnings, event } = heard(onProgress);
      await this.#send({ type: 'add_plugin', config: this.#config(), id, name }, { files, event });
      // The engine puts it behind the others.
      const added = this.#plugins.at(-1);
      if (!added) throw new PaddockError('The engine did not take the plugin.', 'Add it again.');
      // What the engine has begun to load cannot be stopped, but it need not stay.
      if (signal?.aborted && !before.has(added.id)) await this.#send({ type: 'remove_plugin', id: added.id });
      signal?.throwIfAborted();
      return { ...structuredClone(added), warnings };
    }, signal);
  }

  /** @param {string} id @returns {Promise<void>} */
  async removePlugin(id) {
    checked({ id }, ADD);
    return this.#requests.inTurn(() => this.#send({ type: 'remove_plugin', id: String(id) }));
  }

  /** @param {string | string[]} text @param {PredictOptions} [options] @returns {Promise<any>} one result, or a list of them for a list of texts */
  async predict(text, options = {}) {
    checked(options, PREDICT);
    const several = Array.isArray(text);
    const texts = several ? text : [text];
    const odd = texts.findIndex((one) => typeof one !== 'string');
    if (odd >= 0) throw new PaddockError(`text: expected a text, got ${shown(texts[odd])}.`, 'Give a string, or a list of strings.');
    const fields = fieldsOf(options.fields, several ? texts.length : null);
    if (!texts.length) return [];
    const results = await this.#requests.inTurn(() => this.#answer(texts, fields, options), options.signal ?? undefined);
    return several ? results : results[0];
  }

  /** @param {string} text @param {import('./paddock.js').StreamOptions} [options] @returns {AsyncGenerator<string, Result, void>} */
  async *stream(text, options = {}) {
    if (typeof text !== 'string') throw new PaddockError(`text: expected a text, got ${shown(text)}.`, 'Ask for one text at a time.');
    const left = new AbortController();
    const signal = options?.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    /** @type {string[]} */
    const pieces = [];
    let wake = () => {};
    let over = false;
    const whole = this.predict(text, { ...options, signal, onText: (piece) => (pieces.push(piece), wake()) });
    const end = () => ((over = true), wake());
    whole.then(end, end);
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece !== undefined) yield piece;
        else if (over) return await whole;
        else await new Promise((resolve) => (wake = () => resolve(undefined)));
      }
    } finally {
      // Whoever leaves the loop wants no more of it.
      left.abort();
    }
  }

  /** Those there are, in the order in which they came. */
  plugins() {
    return structuredClone(this.#plugins);
  }

  /** What this machine can do, as the engine found it. */
  environment() {
    return structuredClone(this.#environment);
  }

  /** The base. */
  model() {
    return structuredClone(this.#model);
  }

  /** Ends the engine and frees its memory; what is under way is rejected. */
  close() {
    this.#requests.end(new PaddockError('This Paddock was closed.', 'Open another one with Paddock.open().'));
  }

  /** @param {string[]} texts @param {Array<Record<string, string>>} fields @param {PredictOptions} options @returns {Promise<Result[]>} */
  async #answer(texts, fields, { plugin: wanted, apply_chat_template = null, signal: given, onText, onProgress, ...rest }) {
    const signal = given ?? undefined;
    const plugin = this.#chosen(wanted);
    /** @type {Array<Omit<Result, 'warnings'> | undefined>} */
    const results = texts.map(() => undefined);
    const begun = new Set();
    /** @param {string} piece @param {number} index */
    const say = (piece, index) => {
      if (!signal?.aborted && piece) tell(onText, piece, index);
      begun.add(index);
    };
    const { warnings, event } = heard(onProgress, (envelope) => {
      if (envelope.type === 'text_delta') say(envelope.text, envelope.index);
      if (envelope.type !== 'prediction') return;
      const { index, label, scores, finish_reason = null, prompt_tokens = null, completion_tokens = null } = envelope;
      // A class comes as one piece, so that the pieces are always the whole text.
      if (!begun.has(index)) say(label, index);
      results[index] = { text: label, label, scores, finish_reason, prompt_tokens, completion_tokens, plugin };
    });
    if (plugin === null && !this.#bare) await this.#send({ type: 'open_adapter', config: this.#config() }, { signal, event });
    // After any trouble the base is opened anew, on a device that works.
    this.#bare = false;
    const sampling = Object.fromEntries(Object.entries(rest).filter(([key, value]) => key in SAMPLING && value !== undefined && value !== null));
    // The engine counts as well, and tells with the next change of the plugins.
    const info = this.#plugins.find(({ id }) => id === plugin);
    if (info) info.uses += texts.length;
    await this.#send({ type: 'predict', texts, fields, plugin, sampling, apply_chat_template }, { signal, event });
    this.#bare = plugin === null;
    return results.map((result, index) => {
      if (!result) throw new PaddockError(`The engine gave no answer to text ${index + 1}.`, 'Ask again.');
      return { ...result, warnings };
    });
  }

  /** Which plugin answers; none for the base by itself. @param {string | null | undefined} wanted @returns {string | null} */
  #chosen(wanted) {
    if (wanted !== undefined) return wanted;
    const ids = this.#plugins.map(({ id }) => id);
    if (ids.length < 2) return ids[0] ?? null;
    throw new PaddockError(`plugin: which one? There is ${ids.map((id) => `\`${id}\``).join(', ')}.`, 'Name one of them, or null for the base by itself.');
  }

  /** @param {Command} command @param {import('./app/requests.js').With} [how] */
  #send(command, { event = () => {}, ...how } = {}) {
    /** @param {Envelope} envelope */
    const all = (envelope) => {
      if (envelope.type === 'plugins') this.#plugins = envelope.plugins;
      event(envelope);
    };
    return this.#requests.send(command, { ...how, event: all });
  }

  /** The base's weights are held once for all that hold them the same way: as each was trained, where nothing else is asked. */
  #config() {
    const { device, quantization } = this.#held;
    return { device, model: { name_or_path: this.#model.name, quantization }, data: {}, training: {}, evaluation: {}, lora: {}, recovery: {} };
  }
}

function begin() {
  try {
    return new Requests();
  } catch (error) {
    const advice = 'A sandboxed frame needs allow-same-origin, and a Content-Security-Policy has to allow workers of the own site (worker-src).';
    throw new PaddockError(`The browser does not start Paddock's worker: ${error instanceof Error ? error.message : error}`, advice, error);
  }
}

/** @param {Requests} requests @param {Envelope['type']} type of the event that answers @param {Command} command @param {File[]} [files] @returns {Promise<any>} */
async function answerOf(requests, type, command, files) {
  /** @type {Envelope[]} */
  const events = [];
  await requests.send(command, { files, event: (envelope) => void events.push(envelope) });
  const found = events.find((envelope) => envelope.type === type);
  if (!found) throw new PaddockError(`The engine did not answer (${type}).`, 'Reload the page.');
  const { run: _run, type: _type, ...answer } = found;
  return answer;
}

/**
 * Warnings and progress of a command, and what else its events are for.
 * @param {unknown} onProgress @param {(envelope: Envelope) => void} [more]
 */
function heard(onProgress, more = () => {}) {
  /** @type {string[]} */
  const warnings = [];
  /** @param {Envelope} envelope */
  const event = (envelope) => {
    if (envelope.type === 'warning') warnings.push(envelope.message);
    if (envelope.type === 'progress') tell(onProgress, { phase: envelope.phase, done: envelope.done, total: envelope.total });
    more(envelope);
  };
  return { warnings, event };
}

/** One object a text. @param {unknown} given @param {number | null} texts as many as are in a list @returns {Array<Record<string, string>>} */
function fieldsOf(given, texts) {
  if (given === undefined || given === null) return [];
  const advice = 'Give an object such as { context: "…" }, and for a list of texts a list of as many objects.';
  if (Array.isArray(given) !== (texts !== null) || (Array.isArray(given) && given.length !== texts)) throw new PaddockError(`fields: there is ${shown(given)} for ${texts === null ? 'one text' : `${texts} texts`}.`, advice);
  return (Array.isArray(given) ? given : [given]).map((row) => {
    if (row === null || typeof row !== 'object' || Array.isArray(row)) throw new PaddockError(`fields: expected an object, got ${shown(row)}.`, advice);
    const odd = Object.entries(row).find(([, value]) => typeof value !== 'string');
    if (odd) throw new PaddockError(`fields.${odd[0].slice(0, 40)}: expected a text, got ${shown(odd[1])}.`, advice);
    return { ...row };
  });
}
