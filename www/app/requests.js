// @ts-check
/**
 * One engine that is asked for one thing after another: it does one job at a time and refuses a second one.
 *
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {{ files?: File[], signal?: AbortSignal, event?(envelope: Envelope): void }} With
 * @typedef {{
 *   handled: boolean, working: boolean, failure: PaddockError | null,
 *   event(envelope: Envelope): void, resolve(): void, reject(reason: unknown): void,
 * }} Job a command under way; working: the engine goes on with it after it was handled
 */
import { Engine } from './engine.js';
import { PaddockError } from './trouble.js';

const AGAIN = 'Open another one with Paddock.open(); where memory ran out, with a smaller base or with one held in fewer bits (quantization).';
const NOT_STARTED = 'Serve the whole of the built folder as it is: worker.js, paddock-web.js and paddock-web_bg.wasm lie beside paddock.js.';

export class Requests {
  /** @type {Engine} */
  #engine;
  /** Why nothing can be asked any more. @type {{ reason: unknown } | null} */
  #over = null;
  /** @type {Job | null} */
  #job = null;
  /** The last task in the row. @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** Set until the engine has started. @type {((reason: unknown) => void) | null} */
  #notStarted = null;
  /** @type {Promise<void>} */
  started;

  constructor() {
    /** @type {() => void} */
    let ready = () => {};
    this.started = new Promise((resolve, reject) => ([ready, this.#notStarted] = [resolve, reject]));
    this.started.catch(() => {});
    this.#engine = new Engine({
      ready: () => {
        this.#notStarted = null;
        ready();
      },
      event: (envelope, _files, about) => this.#hear(envelope, about),
      settled: (about) => this.#settled(about),
      crashed: (message) =>
        this.end(this.#notStarted ? new PaddockError(`The engine could not be started: ${message}`, NOT_STARTED) : new PaddockError(`The engine stopped: ${message}`, AGAIN)),
    });
  }

  /** Nothing is asked any more, and what is under way or waits is told why. @param {unknown} reason the first one counts */
  end(reason) {
    if (this.#over) return;
    this.#over = { reason };
    this.#engine.end();
    this.#notStarted?.(reason);
    this.#job?.reject(reason);
    this.#job = null;
  }

  /**
   * Runs a task after those before it. Aborting ends the wait at once; the next task waits until this one is over all the same.
   * @template T @param {() => Promise<T>} task @param {AbortSignal} [signal] @returns {Promise<T>}
   */
  inTurn(task, signal) {
    const work = this.#last.then(() => {
      signal?.throwIfAborted();
      return task();
    });
    this.#last = work.catch(() => {});
    return new Promise((resolve, reject) => {
      const abort = () => reject(signal?.reason);
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort, { once: true });
      work.then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
    });
  }

  /**
   * Sends a command, inside a task. Its events go to `event` until the engine is at rest again.
   * @param {Command} command @param {With} [how] @returns {Promise<void>}
   */
  async send(command, { files = [], signal, event = () => {} } = {}) {
    if (this.#over) throw this.#over.reason;
    signal?.throwIfAborted();
    const stop = () => this.#engine.send({ type: 'stop' });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      await new Promise((resolve, reject) => {
        this.#job = { handled: false, working: false, failure: null, event, resolve: () => resolve(undefined), reject };
        this.#engine.send(command, files);
      });
    } finally {
      signal?.removeEventListener('abort', stop);
    }
    signal?.throwIfAborted();
  }

  /** @param {Envelope} envelope @param {Command['type'] | null} about */
  #hear(envelope, about) {
    const job = this.#job;
    if (!job) return;
    if (envelope.type === 'state') {
      if (envelope.state === 'preparing' || envelope.state === 'applying') job.working = true;
      // What is wrong comes with the event after it.
      else if (envelope.state === 'idle') job.working = false;
    } else if (envelope.type === 'failed') {
      // There was nothing to stop any more.
      if (about === 'stop') return;
      job.working = false;
      job.failure = new PaddockError(envelope.message, envelope.advice);
    } else job.event(envelope);
    this.#settle(job);
  }

  /** @param {Command['type']} about */
  #settled(about) {
    if (!this.#job || about === 'stop') return;
    this.#job.handled = true;
    this.#settle(this.#job);
  }

  /** @param {Job} job */
  #settle(job) {
    if (!job.handled || job.working) return;
    this.#job = null;
    if (job.failure) job.reject(job.failure);
    else job.resolve();
  }
}
