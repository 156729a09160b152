/**
 * Paddock in any page: a base model and the plugins that were trained on it.
 *
 * ```js
 * import { Paddock } from './paddock/paddock.js';
 * const paddock = await Paddock.open({ base: 'starter' });
 * const spam = await paddock.addPlugin('spam.zip');
 * const { label, scores } = await paddock.predict('Claim your free prize now', { plugin: spam.id });
 * ```
 *
 * The engine works in one worker a Paddock. It does one thing at a time; what is asked meanwhile waits in its order. Everything that
 * goes wrong is a {@link PaddockError}; what is aborted is rejected with the signal's own reason, as `fetch` does it.
 */
import type { Environment, Finish, ModelSummary, Phase, PluginInfo } from './protocol.js';

export type { Environment, Finish, ModelSummary, PluginInfo };

/** What went wrong, in a sentence that names file, key or address. */
export class PaddockError extends Error {
  constructor(message: string, advice: string, cause?: unknown);
  /** What can be done about it. */
  readonly advice: string;
}

export class Paddock {
  private constructor();

  /**
   * Starts an engine and opens a base model. Its weights are read with the first plugin, or when it is asked by itself.
   * @throws {PaddockError} a browser that starts no worker, an address without a model, one that the token may not read, a model that is no LLaMA, a device that is not there
   */
  static open(options?: OpenOptions): Promise<Paddock>;

  /**
   * Adds a plugin: an adapter that Paddock or PEFT wrote for this base. It takes the place of one with the same id.
   * @param source the address of its folder or its zip (http or https; relative to the page), its zip as a File or Blob, or the files
   * of its folder
   * @throws {PaddockError} files that are none of a plugin, a zip that is damaged, an adapter of another base
   */
  addPlugin(source: string | URL | Blob | Iterable<File>, options?: AddOptions): Promise<Added>;

  /** @throws {PaddockError} no plugin of this id; those there are are named */
  removePlugin(id: string): Promise<void>;

  /**
   * Classifies a text, or has it answered. A list of texts is worked off in batches, which is faster than one by one.
   * @throws {PaddockError} no such plugin, a text that is longer than the model reads, an option without meaning
   */
  predict(text: string, options?: PredictOptions): Promise<Result>;
  predict(texts: string[], options?: PredictManyOptions): Promise<Result[]>;

  /**
   * The answer as it is written: pieces that are never taken back and together are the result's `text`. A class comes as one piece.
   * The generator returns the whole result; leaving the loop ends the answer. Nothing is asked before the first piece is.
   */
  stream(text: string, options?: StreamOptions): AsyncGenerator<string, Result, void>;

  /** Copies of what is known of the plugins, in the order in which they came. */
  plugins(): PluginInfo[];

  /** What this machine can do, and which device `auto` takes. */
  environment(): Environment;

  /** The base. */
  model(): ModelSummary;

  /** Ends the engine and frees its memory; what is under way or waits is rejected. A second call does nothing. */
  close(): void;
}

export interface UnderWay {
  /** Ends the work; the promise is rejected with the signal's reason at once. */
  signal?: AbortSignal;
  onProgress?(progress: Progress): void;
}

export interface OpenOptions extends UnderWay {
  /**
   * `starter` (the default), the model that comes with Paddock; the address of a Hugging Face folder, of a `.gguf` file, or of a
   * model's page on the hub (fetched once and kept in this browser's storage); or the files themselves. Addresses are http or https,
   * relative to the page, and their server has to allow the page to read them.
   */
  base?: 'starter' | (string & {}) | URL | Blob | Iterable<File>;
  /** What messages call it; by default as its folder or file. */
  name?: string;
  /** By default `auto`: a graphics card where the browser has one that is worth it, else the CPU. */
  device?: 'auto' | 'cpu' | 'gpu';
  /** How the base's matrices are held; by default a GGUF file's blocks as they are, others unpacked or as a plugin's `run.yaml` says. */
  quantization?: 'auto' | 'none' | 'q4_0' | 'q4_1' | 'q8_0';
  /** Another hub with the same addresses, such as a mirror; `https://huggingface.co` by default. */
  endpoint?: string;
  /**
   * An access token of the hub, for a gated or private base and for plugins that lie there. It is sent to `endpoint`'s own site alone
   * (browsers leave it out where the hub sends them on to another), kept as long as this Paddock, stored nowhere and in no message. Ask the
   * person for theirs: one that is written into a page is everybody's.
   */
  token?: string;
}

export interface AddOptions extends UnderWay {
  /** 1 to 64 letters, digits, `.`, `_` and `-`; by default that of its `plugin.json`, or made of its name. */
  id?: string;
  /** For people; by default that of its `plugin.json`. */
  name?: string;
}

/** How an answer is made, by transformers' names; none of it touches a plugin that classifies. */
export interface Sampling {
  /** Tokens of the answer at most; 64 by default. */
  max_new_tokens?: number;
  /** 0, the default, takes the likeliest token each time. */
  temperature?: number;
  /** Draw among so many of the likeliest tokens; 0 means all. */
  top_k?: number;
  /** Draw among the likeliest tokens that together have this probability. */
  top_p?: number;
  /** Leave out tokens with less than this share of the likeliest one's probability. */
  min_p?: number;
  /** Above 1, tokens that were there before become less likely. */
  repetition_penalty?: number;
  seed?: number;
  /** Texts that end the answer and are no part of it. */
  stop?: string[];
}

export interface StreamOptions extends UnderWay, Sampling {
  /**
   * The id of the plugin that answers, or null for the base by itself. Left out it is the only plugin there is, or the base where there
   * is none.
   */
  plugin?: string | null;
  /** What else the row has, by role: a question's `context`. */
  fields?: Record<string, string>;
  /** Whether a language model gets the text in its chat template; by default as it was trained. */
  apply_chat_template?: boolean;
}

export interface PredictOptions extends StreamOptions {
  /** Pieces of the answer as they come; together they are the result's `text`. Several texts are answered at once: `index` tells whose piece it is. */
  onText?(piece: string, index: number): void;
}

export interface PredictManyOptions extends Omit<PredictOptions, 'fields'> {
  /** As many as there are texts. */
  fields?: Array<Record<string, string>>;
}

export interface Result {
  /** The answer; of a plugin that classifies the same as `label`. */
  text: string;
  /** The likeliest class, or the number as text; of a plugin that writes the same as `text`. */
  label: string;
  /** Each class with its probability, in the plugin's order; `["value", number]` of one that gives a number; empty for an answer. */
  scores: Array<[label: string, score: number]>;
  /** Of an answer: `stop` at its end, `length` at `max_new_tokens`. */
  finish_reason: Finish | null;
  /** Of an answer. */
  prompt_tokens: number | null;
  completion_tokens: number | null;
  /** Who answered; null for the base by itself. */
  plugin: string | null;
  /** What went otherwise than asked. */
  warnings: string[];
}

/** A plugin that was added. */
export interface Added extends PluginInfo {
  /** Such as: it was trained on other weights than this base has. */
  warnings: string[];
}

export interface Progress {
  /** `starting`: the engine is loaded; `fetching`: `file` comes, counted in bytes; the others are the engine's own. */
  phase: 'starting' | 'fetching' | Phase;
  done: number;
  /** 0 where it is not known. */
  total: number;
  file?: string;
}
