// @ts-check
/**
 * The engine's own thread. It takes `{id, command, files}` and gives `{ready}`, `{envelope, files, id}`, `{handled: id}` and `{crash}`.
 * Commands and units of work never overlap: the engine is one object that is borrowed while either runs.
 */

/** @typedef {{ handle(command: object, files: File[]): Promise<void>, advance(): Promise<void>, busy(): boolean }} Engine */
/** @typedef {{ name: string, bytes: Uint8Array }} Exported */

/** @type {Array<{ id: number, command: object, files: File[] }>} */
const queue = [];
/** @type {(() => void) | null} */
let wake = null;
/** @type {number | null} The command being handled, so that the page can tell whose answer an event is. */
let current = null;
/** What the panic hook said last: a trap's own message is only "unreachable". */
let panic = '';
let crashed = false;

const log = console.error;
console.error = (...args) => {
  const text = args.map(String).join(' ');
  if (/panicked at/.test(text)) panic = text;
  log(...args);
};

/** @param {unknown} error */
function crash(error) {
  if (crashed) return;
  crashed = true;
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const first = panic.split('\n').slice(0, 2).join(' ').trim();
  self.postMessage({ crash: first || message });
}

self.addEventListener('error', (event) => crash(event.error ?? event.message));
self.addEventListener('unhandledrejection', (event) => crash(event.reason));
self.addEventListener('message', (event) => {
  queue.push(event.data);
  wake?.();
});

/** @param {object} envelope @param {Exported[] | undefined} files */
function emit(envelope, files) {
  const out = files ?? [];
  // A view into wasm memory cannot be transferred (it would take the whole memory along), so such bytes are copied first.
  const owned = out.map(({ name, bytes }) => ({
    name,
    bytes: bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice(),
  }));
  /** @type {DedicatedWorkerGlobalScope} */ (/** @type {unknown} */ (self)).postMessage(
    { envelope, files: owned, id: current },
    owned.map(({ bytes }) => bytes.buffer),
  );
}

// A macrotask, so that messages get in between two steps; setTimeout would add 4 ms to each.
const channel = new MessageChannel();
/** @returns {Promise<void>} */
const breathe = () =>
  new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });

/** @param {Engine} engine */
async function pump(engine) {
  while (!crashed) {
    const next = queue.shift();
    if (next) {
      current = next.id;
      await engine.handle(next.command, next.files);
      current = null;
      self.postMessage({ handled: next.id });
    } else if (engine.busy()) {
      await engine.advance();
      await breathe();
    } else {
      await new Promise((resolve) => (wake = () => resolve(undefined)));
      wake = null;
    }
  }
}

try {
  // @ts-ignore: made by wasm-bindgen at build time
  const { default: init, Engine } = await import('./paddock-web.js');
  await init();
  const engine = new Engine(emit);
  self.postMessage({ ready: true });
  await pump(engine);
} catch (error) {
  crash(error);
}

export {};
