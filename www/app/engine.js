// @ts-check
/**
 * A page's end of one engine, from its worker's first word to its end: commands go in, events come out, and its death is told whatever
 * the cause. The trainer's page (session.js) and the module for other pages (requests.js) are built on it.
 *
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('./exports.js').Exported} Exported
 * @typedef {{
 *   ready(): void,
 *   event(envelope: Envelope, files: Exported[], about: Command['type'] | null): void,
 *   settled(about: Command['type']): void,
 *   crashed(message: string, memory: boolean): void,
 * }} Listener about: the command that was being handled; none where an event comes of work that goes on. memory: whether that ran out
 */

/** The last messages of a worker that the browser ended may still be on their way. */
const LAST_WORDS_MS = 1000;

export class Engine {
  /** @type {Worker | null} None once it has ended. */
  #worker;
  #next = 0;
  /** @type {Map<number, Command['type']>} */
  #pending = new Map();
  /** @type {Listener} */
  #listener;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
    const worker = new Worker(new URL('../worker.js', import.meta.url), { type: 'module', name: 'paddock' });
    this.#worker = worker;
    worker.addEventListener('message', ({ data }) => this.#worker && this.#hear(data));
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      this.#crash(event.message || 'worker.js could not be loaded');
    });
    worker.addEventListener('messageerror', () => this.#crash('a message could not be read'));
  }

  /**
   * @param {Command} command @param {File[]} [files] handles; the engine reads the parts it needs
   * @param {string | null} [run] the folder of a run that starts
   */
  send(command, files = [], run = null) {
    const id = this.#next++;
    this.#pending.set(id, command.type);
    this.#worker?.postMessage({ id, command, files, run });
  }

  /** Nothing is heard of it any more. */
  end() {
    this.#worker?.terminate();
    this.#worker = null;
    this.#pending.clear();
  }

  /** @param {any} data what worker.js says */
  #hear(data) {
    if (data.ready) {
      this.#watch(data.lock);
      this.#listener.ready();
    } else if (data.crash !== undefined) this.#crash(data.crash, Boolean(data.memory));
    else if (data.handled !== undefined) {
      const about = this.#pending.get(data.handled);
      this.#pending.delete(data.handled);
      if (about) this.#listener.settled(about);
    } else this.#listener.event(data.envelope, data.files, this.#pending.get(data.id) ?? null);
  }

  /** A worker that the browser ends says nothing, but the lock that it held is free then. @param {string | null} lock */
  #watch(lock) {
    if (!lock) return;
    const gone = () => void setTimeout(() => this.#crash('the worker was ended by the browser'), LAST_WORDS_MS);
    navigator.locks.request(lock, gone).catch(() => {});
  }

  /** @param {string} message @param {boolean} [memory] */
  #crash(message, memory = false) {
    if (!this.#worker) return;
    this.end();
    this.#listener.crashed(message, memory);
  }
}
