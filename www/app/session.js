// @ts-check
/**
 * The trainer's engine, and the next one after it: one that crashed is set up again.
 *
 * @typedef {import('./engine.js').Listener} Listener
 */
import { Engine } from './engine.js';

export class Session {
  /** @type {Engine | null} */
  #engine = null;
  /** @type {Listener} */
  #listener;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
    this.restart();
  }

  /** A new engine that knows nothing of the old one's model and data. */
  restart() {
    this.#engine?.end();
    this.#engine = new Engine(this.#listener);
  }

  /** As {@link Engine.send}. @param {import('./engine.js').Command} command @param {File[]} [files] @param {string | null} [run] */
  send(command, files, run) {
    this.#engine?.send(command, files, run);
  }
}
