// @ts-check
/**
 * What is done with plugins: commands in the order that the engine needs (it takes one piece of work at a time), packages into storage,
 * answers counted. One piece of work at a time here too; the state says which.
 *
 * @typedef {import('./store.js').State} State
 * @typedef {import('./plugins.js').Note} Note
 * @typedef {import('./files.js').Folder} Folder
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('./exports.js').Exported} Exported
 * @typedef {{ event: Envelope | null, files: Exported[] }} Reply
 * @typedef {{
 *   state(): State, set(change: Partial<State>): void, config(): import('../protocol.js').RawConfig,
 *   send(command: Command, files?: File[]): boolean,
 * }} Page send: false where no engine is there to answer; config: what an adapter is opened with
 */
import { download } from './files.js';
import { t } from './i18n.js';
import * as storage from './plugin-storage.js';
import { alike, freeId, idOf, kindOfPlugin, noPlugins, packagesOf, pluginOf, suggestedName, unkept } from './plugins.js';
import { noUse, occupied, settingsInUse } from './store.js';
import { count, forgetUses } from './uses.js';
import { scenarioName } from '../ui/tasks.js';

/** A command that the engine refused. */
class Refused extends Error {
  /** @param {string} message @param {string} advice */
  constructor(message, advice) {
    super(message);
    this.advice = advice;
  }
}

export class PluginWork {
  /** @type {Page} */
  #page;
  /** Commands that are waited for. @type {Map<string, { resolve(reply: Reply): void, reject(error: Refused): void }>} */
  #waiting = new Map();
  /** Work under way. @type {Promise<void> | null} */
  #under = null;
  /** The person wants no further answers. */
  #stopped = false;
  /** The plugin that `use_plugin` was last sent for. */
  #turning = '';
  /** The opened base's name in storage. @type {Promise<string | null>} */
  #base = Promise.resolve(null);

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
  }

  get #state() {
    return this.#page.state();
  }

  /** @param {Partial<State['plugins']>} change */
  #change(change) {
    this.#page.set({ plugins: { ...this.#state.plugins, ...change } });
  }

  /** @param {string} key @param {Note['params']} [params] @param {boolean} [bad] */
  #note(key, params, bad = false) {
    this.#change({ notes: [...this.#state.plugins.notes, { key, params, bad }] });
  }

  /** @param {Command} command @param {File[]} [files] @returns {Promise<Reply>} */
  #ask(command, files = []) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(command.type, { resolve, reject });
      if (!this.#page.send(command, files)) this.refused(command.type, { message: t('crash.title'), advice: '' });
    });
  }

  /** @param {string} type */
  waits = (type) => this.#waiting.has(type);

  /** @param {string} type */
  #take(type) {
    const waiting = this.#waiting.get(type);
    this.#waiting.delete(type);
    return waiting;
  }

  /** A command has its answer, or was carried out without one. @param {string} type @param {Envelope | null} [event] @param {Exported[]} [files] */
  answered(type, event = null, files = []) {
    this.#take(type)?.resolve({ event, files });
  }

  /** @param {string} type @param {{ message: string, advice: string }} failure */
  refused(type, { message, advice }) {
    this.#take(type)?.reject(new Refused(message, advice));
  }

  /** The engine died, and its plugins with it. */
  gone() {
    const { stored } = this.#state.plugins;
    this.#page.set({ plugins: { ...noPlugins(), stored } });
    for (const type of [...this.#waiting.keys()]) this.refused(type, { message: t('crash.title'), advice: '' });
  }

  /** Another base is open: what was kept for it is offered. @param {File[]} files the model's */
  async opened(files) {
    this.#base = storage.baseOf(files);
    await this.#look();
  }

  /** What the page knows of the plugin that the engine has just turned to. @returns {Partial<State>} */
  turned() {
    const { use, plugins } = this.#state;
    const id = this.#turning;
    return { prediction: null, answer: '', use: { ...noUse(), adapter: use.adapter, name: pluginOf(this.#state, id)?.name ?? id, plugin: id, settings: plugins.settings[id] ?? null } };
  }

  /** The engine would take a command now. */
  #free() {
    const { busy } = this.#state;
    return !(this.#under || occupied(this.#state) || busy.predict || busy.export);
  }

  /** @param {State['plugins']['working']} working @param {() => Promise<void>} work */
  async #do(working, work) {
    // Drawn anew, so that a choice that is not followed does not stay on the page.
    if (!this.#free()) return this.#page.set({});
    this.#stopped = false;
    const state = this.#state;
    this.#page.set({ plugins: { ...state.plugins, working, notes: [], warnings: [] }, trouble: { ...state.trouble, plugins: undefined } });
    this.#under = this.#to(work);
    await this.#under;
  }

  /** Does it to its end, or to what was refused. @param {() => Promise<void>} work */
  async #to(work) {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#trouble(error.message, error.advice);
    } finally {
      this.#under = null;
      this.#change({ working: '' });
    }
  }

  /** Said at the plugins, whatever command it was. @param {string} message @param {string} advice @param {boolean} [own] in the engine's own words */
  #trouble(message, advice, own = true) {
    const { trouble, engine } = this.#state;
    // A dead engine is told of at the top of the page.
    if (engine === 'crashed') return;
    const elsewhere = trouble.result?.message === message ? undefined : trouble.result;
    this.#page.set({ trouble: { ...trouble, result: elsewhere, plugins: { message, advice, engine: own } } });
  }

  /** @param {string} id */
  async #use(id) {
    this.#turning = id;
    await this.#ask({ type: 'use_plugin', id });
  }

  /** To the plugin that was in use before others were. @param {State['use']} use */
  async #back(use) {
    if (use.plugin === null || use.plugin === this.#turning || this.#state.engine === 'crashed') return;
    await this.#use(use.plugin);
    this.#page.set({ use });
  }

  /** A name for the model in use. */
  #suggested() {
    const state = this.#state;
    return suggestedName(state, scenarioName(state, state.use.adapter?.task ?? state.settings?.task ?? ''));
  }

  /** What is in use and no plugin yet becomes one, so that turning to another loses nothing. */
  async #hold() {
    if (unkept(this.#state)) await this.#keep(this.#suggested());
  }

  /** @param {string} name */
  async #keep(name) {
    const settings = settingsInUse(this.#state);
    await this.#ask({ type: 'keep_plugin', name });
    const { plugins, use } = this.#state;
    const id = idOf(name);
    const { [id]: _, ...others } = plugins.settings;
    const changed = { settings: settings ? { ...others, [id]: settings } : others, replaced: [...plugins.replaced, id] };
    this.#page.set({ plugins: { ...plugins, ...changed }, use: { ...use, plugin: id, loose: false } });
    this.#note('kept', { name });
    if (use.adapter ? use.adapter.r === null : settings?.full) return this.#note('not_stored_whole', { name }, true);
    if (!(await this.#base)) return this.#note('not_stored_none', { name }, true);
    try {
      const { files } = await this.#ask({ type: 'export', format: 'adapter', zip: true, name });
      await this.#store(id, files.map(({ name, blob }) => new File([blob], name)));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#trouble(error.message, error.advice);
      this.#note('not_stored_none', { name }, true);
    }
  }

  /** @param {string} id @param {File[]} files */
  async #store(id, files) {
    const plugin = pluginOf(this.#state, id);
    const base = await this.#base;
    if (!plugin) return;
    if (!base) return this.#note('not_stored_none', { name: plugin.name }, true);
    try {
      await storage.keep(base, plugin, files);
      this.#matches(id);
    } catch (error) {
      this.#note(`not_stored_${storage.faultOf(error)}`, { name: plugin.name }, true);
    }
    await this.#look();
  }

  /** The stored package is that of the loaded plugin. @param {string} id */
  #matches(id) {
    this.#change({ replaced: this.#state.plugins.replaced.filter((one) => one !== id) });
  }

  /** What is in storage. */
  async #look() {
    const asked = this.#base;
    const base = await asked;
    const stored = base ? await storage.stored(base) : [];
    // Another base may have been opened meanwhile.
    if (this.#base === asked) this.#change({ stored });
  }

  /** An answer came. @param {string} id */
  #counted(id) {
    const plugin = pluginOf(this.#state, id);
    if (plugin) this.#page.set({ uses: count(id, plugin.task) });
  }

  /** @param {string} text @param {Record<string, string>} fields @param {string | null} plugin @returns {Command} */
  #question = (text, fields, plugin) => ({ type: 'predict', texts: [text], ...(Object.keys(fields).length && { fields: [fields] }), ...(plugin !== null && { plugin }) });

  /**
   * Packages one after the other; what one is refused for does not keep the others out. One with an id comes from storage.
   * @param {Array<{ name: string, files: File[], id?: string }>} packages
   */
  async #add(packages) {
    /** @type {Array<{ file: string, error: Refused }>} */
    const failures = [];
    for (const { name, files, id: known } of packages) {
      const id = known ?? freeId(this.#state, name);
      try {
        await this.#ask({ type: 'add_plugin', config: this.#page.config(), id, ...(known && { name }) }, files);
        this.#note('added', { name: pluginOf(this.#state, id)?.name ?? id });
        if (known) this.#matches(id);
        else await this.#store(id, files);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        failures.push({ file: name, error });
      }
    }
    const [plugin] = this.#state.plugins.list;
    if (!this.#state.trained && plugin) await this.#use(plugin.id);
    // Last, as each command takes the failure before it off the page.
    const [first] = failures;
    const message = packages.length === 1 ? first?.error.message : failures.map(({ file, error }) => `${file}: ${error.message}`).join(' — ');
    if (first) this.#trouble(message, first.error.advice);
  }

  /** What a person can do. */
  act = {
    /** @param {Folder} folder zips, or one adapter's files */
    addPlugins: async (folder) => {
      // A file that is dropped a moment too early is not lost.
      while (this.#under) await this.#under.catch(() => {});
      if (!this.#free()) return this.#trouble(t('plugins.wait'), '', false);
      return this.#do('adding', async () => {
        const packages = packagesOf(folder);
        if (packages.length) await this.#add(packages);
        else this.#note('nothing', {}, true);
      });
    },

    /** Packages that this browser kept. @param {string[]} ids */
    loadPlugins: (ids) =>
      this.#do('adding', async () => {
        const base = await this.#base;
        if (!base) return;
        const packages = [];
        for (const { id, name } of this.#state.plugins.stored.filter((one) => ids.includes(one.id))) {
          const files = await storage.filesOf(base, id).catch(() => null);
          if (files) packages.push({ id, name, files });
          else this.#note('lost', { name }, true);
        }
        await this.#add(packages);
        await this.#look();
      }),

    /** @param {string} name */
    keepPlugin: (name) => this.#do('keeping', () => this.#keep(name)),

    /** @param {string} id */
    usePlugin: (id) => {
      if (id === this.#state.use.plugin || !pluginOf(this.#state, id)) return Promise.resolve();
      return this.#do('switching', async () => {
        await this.#hold();
        this.#change({ answers: [] });
        await this.#use(id);
      });
    },

    /** From the list and from storage. @param {string} id */
    removePlugin: (id) =>
      this.#do('removing', async () => {
        const name = pluginOf(this.#state, id)?.name ?? id;
        await this.#ask({ type: 'remove_plugin', id });
        const { plugins } = this.#state;
        const { [id]: _, ...settings } = plugins.settings;
        this.#change({ settings });
        // One that it took the place of, and that is stored, is offered again.
        if (plugins.replaced.includes(id)) this.#matches(id);
        else await this.#forget(id);
        this.#note('removed', { name });
      }),

    /** A package that is only in storage. @param {string} id */
    forgetPlugin: (id) =>
      this.#do('removing', async () => {
        const name = this.#state.plugins.stored.find((one) => one.id === id)?.name ?? id;
        if (await this.#forget(id)) this.#note('removed', { name });
      }),

    /** As a file; what is in use stays in use. @param {string} id */
    downloadPlugin: (id) =>
      this.#do('packing', async () => {
        await this.#hold();
        const { use, prediction } = this.#state;
        if (use.plugin !== id) await this.#use(id);
        const whole = this.#state.use.adapter ? this.#state.use.adapter.r === null : this.#state.settings?.full;
        const name = pluginOf(this.#state, id)?.name ?? id;
        try {
          const { files } = await this.#ask({ type: 'export', format: whole ? 'merged' : 'adapter', zip: true, name });
          for (const { blob } of files) download(`${id}.zip`, blob);
        } finally {
          await this.#back(use);
          if (this.#state.use === use) this.#page.set({ prediction });
        }
      }),

    /** @param {string} text @param {Record<string, string>} [fields] what else the row has, by role */
    predict: async (text, fields = {}) => {
      const state = this.#state;
      if (this.#under || this.waits('predict')) return;
      const id = state.use.plugin;
      this.#page.set({ asked: text, answer: '', asker: pluginOf(state, id)?.name ?? '', plugins: { ...state.plugins, answers: [] } });
      try {
        await this.#ask(this.#question(text, fields, id));
      } catch (error) {
        if (error instanceof Refused) return;
        throw error;
      }
      if (id === null) return;
      this.#counted(id);
      this.#page.send({ type: 'list_plugins' });
    },

    /** The same text to every plugin that takes it. @param {string} text @param {Record<string, string>} fields */
    askAll: (text, fields) =>
      this.#do('asking', async () => {
        await this.#hold();
        const { use } = this.#state;
        const asked = alike(this.#state);
        this.#page.set({ asked: text, prediction: null, asker: '' });
        this.#change({ answers: asked.map((one) => ({ id: one.id, name: one.name, kind: kindOfPlugin(one), prediction: null, failed: '' })) });
        for (const { id } of asked) {
          if (this.#stopped || this.#state.engine === 'crashed') break;
          this.#page.set({ answer: '' });
          const said = await this.#answer(text, fields, id);
          this.#change({ answers: this.#state.plugins.answers.map((one) => (one.id === id ? { ...one, ...said } : one)) });
        }
        this.#page.set({ prediction: null, answer: '' });
        // Those that were not asked any more have no answer to wait for.
        this.#change({ answers: this.#state.plugins.answers.filter(({ prediction, failed }) => prediction || failed) });
        this.#turning = '';
        await this.#back(use);
        await this.#ask({ type: 'list_plugins' });
      }),

    endAnswer: () => {
      this.#stopped = true;
      this.#page.send({ type: 'stop' });
    },

    clearUses: () => this.#page.set({ uses: forgetUses() }),
  };

  /** @param {string} text @param {Record<string, string>} fields @param {string} id */
  async #answer(text, fields, id) {
    try {
      const { event } = await this.#ask(this.#question(text, fields, id));
      this.#counted(id);
      return { prediction: event?.type === 'prediction' ? event : null, failed: event?.type === 'prediction' ? '' : '–' };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // Said where its answer would stand.
      this.#page.set({ trouble: { ...this.#state.trouble, result: undefined } });
      return { prediction: null, failed: error.message };
    }
  }

  /** @param {string} id @returns {Promise<boolean>} whether it is gone */
  async #forget(id) {
    const base = await this.#base;
    if (!base) return true;
    const done = await storage.forget(base, id).then(
      () => true,
      () => false,
    );
    if (!done) this.#note('not_removed', { name: id }, true);
    await this.#look();
    return done;
  }
}
