// @ts-check
/**
 * The engine's own thread. It takes `{id, command, files, run}` (`run`: the folder that a run keeps its checkpoints in) and gives `{ready, lock}`, `{envelope, files, id}`, `{handled: id}` and `{crash, memory}`.
 * Commands and units of work never overlap: the engine is one object that is borrowed while either runs.
 */

import { Exports } from './app/exports.js';
import { RunStorage, hold } from './app/run-storage.js';
import { watch } from './app/wgpu.js';

/** @typedef {{ handle(command: object, files: File[]): Promise<void>, advance(): Promise<void>, busy(): boolean, use_storage(storage?: RunStorage): void, use_cache(cache?: RunStorage): void }} Engine */
/** @typedef {import('./protocol.js').Envelope} Envelope */

/** @type {Array<{ id: number, command: { type: string }, files: File[], run?: string }>} */
const queue = [];
/** @type {(() => void) | null} */
let wake = null;
/** @type {number | null} The command being handled, so that the page can tell whose answer an event is. */
let current = null;
/** What the panic hook said last: a trap's own message is only "unreachable". */
let panic = '';
let crashed = false;
/** The engine's own memory. @type {WebAssembly.Memory | undefined} */
let memory;

const log = console.error;
console.error = (...args) => {
  const text = args.map(String).join(' ');
  if (/panicked at/.test(text)) panic = text;
  log(...args);
};

/**
 * Whether an allocation failed. Rust then ends without a word: in a trap that no panic has announced, or in a panic about a size that
 * no memory of 32 bits has. @param {unknown} error
 */
function noMemory(error) {
  if (panic) return /capacity overflow|memory allocation/i.test(panic);
  if (error instanceof WebAssembly.RuntimeError) return /unreachable/i.test(error.message);
  return error instanceof RangeError && /alloc|memory/i.test(error.message);
}

/** @param {unknown} error */
function crash(error) {
  if (crashed) return;
  crashed = true;
  const starved = noMemory(error);
  const held = memory ? `, with ${Math.round(memory.buffer.byteLength / 2 ** 20)} MiB in use` : '';
  const message = starved ? `no memory was left for an allocation${held}` : error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const first = panic.split('\n').slice(0, 2).join(' ').trim();
  self.postMessage({ crash: first || message, memory: starved });
}

self.addEventListener('error', (event) => crash(event.error ?? event.message));
self.addEventListener('unhandledrejection', (event) => crash(event.reason));
self.addEventListener('message', (event) => {
  queue.push(event.data);
  wake?.();
});

/** @param {Envelope} envelope @param {import('./app/exports.js').Exported[]} [files] @param {number | null} [id] */
const post = (envelope, files = [], id = current) => self.postMessage({ envelope, files, id });

const exports = new Exports();
/** Pieces of an export that are still to be stored. @type {Array<{ envelope: Envelope, bytes?: Uint8Array, id: number | null }>} */
const pieces = [];

/** @param {Envelope} envelope @param {Uint8Array} [bytes] those of an `export_chunk` */
function emit(envelope, bytes) {
  if (envelope.type === 'finished' || (envelope.type === 'state' && envelope.state === 'failed')) letGo();
  if (envelope.type.startsWith('export')) pieces.push({ envelope, bytes, id: current });
  else post(envelope);
}

/** Stores what the last call exported, so that no more than one piece waits. @param {Engine} engine */
async function store(engine) {
  try {
    for (const { envelope, bytes, id } of pieces.splice(0)) {
      if (envelope.type === 'export_started') {
        await exports.begin(envelope.files.reduce((sum, file) => sum + file.bytes, 0));
        post(envelope, [], id);
      } else if (envelope.type === 'export_chunk' && bytes) await exports.write(envelope.file, bytes);
      else if (envelope.type === 'exported') post(envelope, await exports.end(), id);
    }
  } catch (error) {
    await exports.drop();
    await engine.handle({ type: 'stop' }, []);
    const message = `The export could not be stored: ${error instanceof Error ? `${error.name} ${error.message}` : error}`;
    post({ run: '', type: 'failed', message, advice: 'Free some disk space, or close private windows, and export again.' });
  }
}

/** The folder and the lock of the run under way. @type {{ storage: RunStorage, release(): void } | null} */
let running = null;

function letGo() {
  running?.storage.close();
  running?.release();
  running = null;
}

/** Gives the engine a run's folder; false where another tab has it. @param {Engine} engine @param {string} [run] */
async function prepare(engine, run) {
  letGo();
  engine.use_storage(undefined);
  if (!run) return true;
  const release = await hold(run);
  if (!release) return false;
  try {
    running = { storage: await RunStorage.of(run), release };
    engine.use_storage(running.storage);
  } catch {
    // Without a private file system the run cannot be gone on with, but it can be made.
    release();
  }
  return true;
}

// A macrotask, so that messages get in between two steps; setTimeout would add 4 ms to each.
const channel = new MessageChannel();
/** @returns {Promise<void>} */
const breathe = () =>
  new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });

/** The name of a lock that is held as long as this worker lives, so that the page sees its end. @returns {Promise<string | null>} */
function alive() {
  return new Promise((resolve) => {
    if (!navigator.locks) return resolve(null);
    const name = `paddock-engine-${crypto.randomUUID()}`;
    const hold = () => {
      resolve(name);
      return new Promise(() => {});
    };
    navigator.locks.request(name, hold).catch(() => resolve(null));
  });
}

/** @param {Engine} engine */
async function pump(engine) {
  while (!crashed) {
    const next = queue.shift();
    if (next) {
      current = next.id;
      // A start that the engine refuses must not take the running one's folder.
      if (next.command.type !== 'start' || engine.busy() || (await prepare(engine, next.run))) await engine.handle(next.command, next.files);
      else post({ run: '', type: 'failed', message: 'This run goes on in another tab.', advice: 'Close the other tab, or watch it there.' });
      await store(engine);
      current = null;
      self.postMessage({ handled: next.id });
    } else if (engine.busy()) {
      await engine.advance();
      await store(engine);
      await breathe();
    } else {
      await new Promise((resolve) => (wake = () => resolve(undefined)));
      wake = null;
    }
  }
}

/** What the engine asks for where a file is not UTF-8: its guesser of encodings is a module of its own (crate/src/platform/encodings.rs). */
Object.assign(self, {
  async paddockEncodings() {
    // @ts-ignore: made by wasm-bindgen at build time
    const { default: init, guess } = await import('./paddock-encodings.js');
    await init();
    return guess;
  },
});

try {
  // @ts-ignore: made by wasm-bindgen at build time
  const { default: init, Engine } = await import('./paddock-web.js');
  const made = await init();
  memory = made?.memory;
  watch(made);
  const engine = new Engine(emit);
  engine.use_cache(await RunStorage.cache());
  self.postMessage({ ready: true, lock: await alive() });
  await pump(engine);
} catch (error) {
  crash(error);
}
