// @ts-check
/**
 * The page's end of the protocol: sends commands to the worker, hands its events on, and says when it died.
 *
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('./exports.js').Exported} Exported
 * @typedef {{
 *   ready(): void,
 *   event(envelope: Envelope, files: Exported[], about: Command['type'] | null): void,
 *   settled(about: Command['type']): void,
 *   crashed(message: string): void,
 * }} Listener
 */

export class Session {
  /** @type {Worker | null} */
  #worker = null;
  #next = 0;
  /** @type {Map<number, Command['type']>} */
  #pending = new Map();
  /** @type {Listener} */
  #listener;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
    this.restart();
  }

  /** A new engine that knows nothing of the old one's model and data. */
  restart() {
    this.#worker?.terminate();
    this.#pending.clear();
    const worker = new Worker(new URL('../worker.js', import.meta.url), { type: 'module', name: 'paddock' });
    this.#worker = worker;
    worker.addEventListener('message', ({ data }) => {
      if (worker !== this.#worker) return;
      if (data.ready) this.#listener.ready();
      else if (data.crash !== undefined) this.#crash(data.crash);
      else if (data.handled !== undefined) this.#settle(data.handled);
      else this.#listener.event(data.envelope, data.files, this.#pending.get(data.id) ?? null);
    });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      if (worker === this.#worker) this.#crash(event.message || 'worker.js could not be loaded');
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

  /** @param {number} id */
  #settle(id) {
    const about = this.#pending.get(id);
    this.#pending.delete(id);
    if (about) this.#listener.settled(about);
  }

  /** The worker ended without a word. */
  gone() {
    if (this.#worker) this.#crash('the worker was ended by the browser');
  }

  /** @param {string} message */
  #crash(message) {
    this.#worker?.terminate();
    this.#worker = null;
    this.#pending.clear();
    this.#listener.crashed(message);
  }
}
