// @ts-check
/** Puts the parts together: events into the state, the state onto the page, the person's actions into commands. */
import { LANGUAGES, currentLanguage, preferredLanguage, setLanguage, t } from './i18n.js';
import { active, initial, mapped, noRun, noUse, PANEL_OF, reduce, runSettings } from './store.js';
import { DEVICES, changed, fromConfig, readForm, toConfig, unreadable } from './config.js';
import { STARTER, download, fromSite, isAdapter } from './files.js';
import { recall, remember } from './prefs.js';
import { keepAwake } from './awake.js';
import { know } from './metrics.js';
import { PluginWork } from './plugin-work.js';
import { generates, preset } from './tasks.js';
import { begin, cutRuns, forget, reopen } from './runs.js';
import { Session } from './session.js';
import { recallUses } from './uses.js';
import { storage, webGpu } from './webgpu.js';
import { h } from '../ui/dom.js';
import { hub } from '../ui/hub.js';
import { page } from '../ui/page.js';
import { reachable } from '../ui/stepper.js';

/** @typedef {import('./store.js').State} State */
/** @typedef {import('./store.js').Panel} Panel */
/** @typedef {import('./store.js').Place} Place */
/** @typedef {import('../protocol.js').Command} Command */

const SAMPLE = ['data/spam.csv'];
/** Wait this long after the last key before the plan is made anew. */
const CHECK_AFTER = 400;

/** @type {Record<string, Command['type']>} The event that answers a command; a failure answers it too. */
const ANSWERS = { environment: 'inspect', model_opened: 'open_model', data_opened: 'open_data', config: 'open_config', plan: 'check', adapter_opened: 'open_adapter', evaluation: 'evaluate', prediction: 'predict', exported: 'export', lr_curve: 'lr_find', sweep_step: 'sweep_next', plugins: 'add_plugin' };

const device = recall('device');
let state = initial(readForm(recall('settings')), DEVICES.includes(String(device)) ? String(device) : 'auto', recallUses());
/** @type {{ element: HTMLElement, update(state: State): void } | null} */
let view = null;
let drawing = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let checkTimer;
/**
 * What was opened last (training rows, then held-out ones), to open it again after a crash or beside another file.
 * @type {{ model: import('./files.js').Folder | null, data: File[] }}
 */
const opened = { model: null, data: [] };
/**
 * The run under way: its folder, what it was started with, what is still to be opened before it goes on, and how often memory ran out
 * since its last checkpoint.
 * @type {{ run: string | null, config: import('../protocol.js').RawConfig | null, waiting: Set<Command['type']>, smaller: number, tries: number }}
 */
const under = { run: null, config: null, waiting: new Set(), smaller: 0, tries: 0 };
/** A small sweep under way: what is tried, what came of it, and which trial runs. @type {{ sweep: any, results: any[], trial: any } | null} */
let sweeping = null;
/** An engine that crashed is set up again this often in a run. */
const MOST_TRIES = 3;
/** Files whose answer is still awaited. */
const asked = { data: /** @type {File[]} */ ([]), config: '', adapter: '' };

/** @param {Partial<State>} change */
function set(change) {
  state = { ...state, ...change };
  keepAwake(active(state) && state.run.state !== 'paused');
  if (drawing) return;
  drawing = true;
  // Many events a frame are drawn once. A hidden tab draws nothing and catches up when it is shown.
  requestAnimationFrame(() => {
    drawing = false;
    view?.update(state);
  });
}

/** @param {Place} place @param {unknown} error @param {string} [advice] */
const fail = (place, error, advice = t('common.reload')) =>
  set({ trouble: { ...state.trouble, [place]: { message: error instanceof Error ? error.message : String(error), advice } } });

/** One file, or it is said that there are several. @param {File[]} files @param {Place} place */
function one(files, place) {
  if (files.length !== 1) fail(place, t('common.one_file', { n: files.length }), '');
  return files.length === 1;
}

/** @param {Command} command @param {File[]} [files] @param {string | null} [run] @returns {boolean} whether somebody will answer */
function send(command, files, run) {
  // The notice at the top says what to do.
  if (state.engine === 'crashed') return set({ busy: {} }), false;
  const panel = PANEL_OF[command.type];
  set({ busy: { ...state.busy, [command.type]: true }, trouble: { ...state.trouble, [panel]: undefined } });
  session.send(command, files, run);
  return true;
}

const plugins = new PluginWork({ state: () => state, set, send, config: adapterConfig });

const session = new Session({
  ready: () => set({ engine: 'ready' }),
  event(envelope, files, about) {
    // A failure while nothing runs answers the command that is still waited for.
    const waiting = /** @type {Command['type'][]} */ (Object.values(ANSWERS)).find((type) => state.busy[type]);
    const concerns = about ?? (envelope.type === 'failed' && !active(state) ? waiting ?? null : null);
    // Other commands than the one that takes long are answered with the list too.
    const answered = envelope.type === 'failed' ? concerns : envelope.type === 'plugins' && about ? null : ANSWERS[envelope.type];
    const theirs = plugins.waits('export');
    if (envelope.type === 'environment') know(envelope.scenarios);
    set(reduce(state, envelope, concerns, performance.now()));
    if (sweeping) sweepOn(envelope, concerns);
    if (answered) set({ busy: { ...state.busy, [answered]: false } });
    if (envelope.type === 'failed' && concerns && under.waiting.has(concerns)) stopResuming();
    // What was saved can be taken up, with the right files or another time.
    if (envelope.type === 'failed' && (concerns === 'start' || envelope.run)) cutRuns().then(([cut]) => set({ cut: cut ?? null }));
    if (envelope.type === 'checkpoint') {
      // It says itself in how many parts its batches are.
      under.smaller = 0;
      storage().then((quota) => set({ quota }));
    }
    if (envelope.type === 'data_opened') opened.data = asked.data;
    if (envelope.type === 'model_opened') plugins.opened(opened.model?.files ?? []);
    if (envelope.type === 'adapter_opened') set(about === 'use_plugin' ? plugins.turned() : { use: { ...state.use, name: asked.adapter, loose: true } });
    if (envelope.type === 'failed' && concerns) plugins.refused(concerns, envelope);
    else if (answered) plugins.answered(answered, envelope, files);
    if (envelope.type === 'config') {
      set({ loaded: state.resuming ? null : { name: asked.config, files: state.loaded?.files ?? [] } });
      if (state.resuming) under.config = envelope.config;
      else remember('settings', state.form);
    }
    if (envelope.type === 'exported' && !theirs) for (const { name, blob } of files) download(name, blob);
    if (['model_opened', 'data_opened', 'config'].includes(envelope.type)) checkSoon();
  },
  settled(about) {
    if (!Object.values(ANSWERS).includes(about)) {
      set({ busy: { ...state.busy, [about]: false } });
      plugins.answered(about);
    }
    if (under.waiting.delete(about) && !under.waiting.size) goOnNow();
  },
  crashed(message, memory) {
    plugins.gone();
    // With smaller batches even a run that has saved nothing gets further than it did.
    if (active(state) && (state.run.saved || memory) && under.run && under.config && under.tries < MOST_TRIES) return revive(message, memory);
    stopResuming();
    const run = active(state) ? { ...state.run, state: /** @type {const} */ ('failed'), progress: null, stopping: false } : state.run;
    sweeping = null;
    cutRuns().then(([cut]) => set({ cut: cut ?? null }));
    set({ engine: 'crashed', crash: message, busy: {}, run, trained: false, tuning: { ...state.tuning, running: false } });
  },
});

/** What a sweep does with an event: a trial's end, or the plan's next trial. @param {import('./store.js').Envelope} event @param {Command['type'] | null} about */
function sweepOn(event, about) {
  if (!sweeping) return;
  const { sweep, results, trial } = sweeping;
  if (event.type === 'sweep_step') {
    const { tuning } = state;
    sweeping.trial = event.trial;
    const what = event.trial ? Object.entries(event.trial.settings).map(([key, value]) => `${key.split('.').at(-1)} ${value}`).join(', ') || t('tune.as_is') : '';
    const best = results.find((one) => one.trial === event.report.best)?.settings ?? null;
    set({ tuning: { ...tuning, report: event.report, runs: event.runs, trial: what, best, running: event.trial !== null } });
    if (event.trial && event.config) {
      Object.assign(under, { run: null, config: null });
      set({ run: { ...noRun(), state: 'preparing' }, trained: false, prediction: null, use: noUse(), settings: null });
      send({ type: 'start', config: event.config });
    } else endSweep();
  } else if (event.type === 'finished' && trial) {
    const stopped = event.ended === 'stopped';
    if (!stopped) results.push({ ...trial, metrics: event.after, rows: event.rows, steps: event.steps, seconds: event.seconds, error: null });
    sweeping.trial = null;
    if (stopped) endSweep();
    else send({ type: 'sweep_next', sweep, results });
  } else if (event.type === 'failed' && about === 'sweep_next') endSweep();
  else if (event.type === 'failed' && trial) {
    // A setting that ruins a run is a result too.
    results.push({ ...trial, metrics: null, rows: 0, steps: 0, seconds: 0, error: event.message });
    sweeping.trial = null;
    set({ trouble: { ...state.trouble, train: undefined } });
    send({ type: 'sweep_next', sweep, results });
  }
}

/** The last trial's model is nobody's result. */
function endSweep() {
  sweeping = null;
  set({ tuning: { ...state.tuning, running: false }, run: noRun(), trained: false, settings: null });
}

/** A new engine takes the run up where the crashed one had saved it. @param {string} message @param {boolean} memory whether that ran out */
function revive(message, memory) {
  under.tries += 1;
  if (memory) under.smaller += 1;
  under.waiting = new Set(/** @type {const} */ (['open_model', 'open_data']));
  const told = !memory ? 'crash.revived' : state.run.saved ? 'crash.revived_smaller' : 'crash.begun_smaller';
  const warnings = [...state.run.warnings, t(told, { message })];
  set({ engine: 'starting', busy: {}, resuming: under.run, run: { ...state.run, state: 'recovering', progress: null, warnings } });
  session.restart();
  send({ type: 'inspect' });
  if (opened.model) act.openModel(opened.model);
  sendData(opened.data);
}

function stopResuming() {
  under.waiting.clear();
  if (state.resuming) set({ resuming: null, run: active(state) ? { ...state.run, state: 'failed' } : state.run });
}

/** Everything that the run needs is open. */
function goOnNow() {
  if (!state.resuming || !under.config) return;
  under.run = state.resuming;
  const { form, task = '', shape, columns, regression } = fromConfig(under.config);
  const settings = runSettings({ ...state, form, task, shape, columns, regression });
  set({ resuming: null, cut: null, settings, use: noUse(), prediction: null, trained: false, run: { ...state.run, state: 'preparing' } });
  send({ type: 'start', config: { ...under.config, device: state.device }, resume: true, smaller: under.smaller }, [], under.run);
  act.go('train');
}

const config = () =>
  toConfig({
    form: state.form,
    kept: state.kept,
    device: state.device,
    model: state.model?.name ?? '',
    data: state.data?.name ?? '',
    heldOut: state.heldOut?.name ?? '',
    task: state.task,
    shape: state.shape,
    columns: state.columns,
    regression: state.regression && !generates(state, state.task),
    answers: generates(state, state.task),
  });

/** What an adapter is opened with: the rest is its own. @returns {import('../protocol.js').RawConfig} */
function adapterConfig() {
  return { device: state.device, model: { name_or_path: state.model?.name ?? '' }, data: {}, training: {}, evaluation: {}, lora: {}, recovery: {} };
}

/** What was kept of a file, without a key that was chosen here since. @param {string} key */
function keptWithout(key) {
  const { [key]: _, ...rest } = state.kept;
  return rest;
}

/** @param {File[]} files */
function sendData(files) {
  asked.data = files;
  send({ type: 'open_data' }, files);
}

function checkSoon() {
  clearTimeout(checkTimer);
  checkTimer = setTimeout(() => {
    if (state.model && state.data && !active(state) && !unreadable(state.form).length) act.check();
  }, CHECK_AFTER);
}

/** @param {Partial<State>} change a setting that the plan depends on */
function choose(change) {
  set({ ...change, stale: true, trouble: { ...state.trouble, settings: undefined } });
  checkSoon();
}

const act = {
  /** @param {Panel} step */
  go(step) {
    if (!reachable(state, step)) return;
    set({ step });
    if (step === 'settings' && state.stale && !state.trouble.settings) checkSoon();
    requestAnimationFrame(() => {
      document.getElementById(`title-${step}`)?.focus({ preventScroll: true });
      scrollTo({ top: 0 });
    });
  },
  /** @param {string} device */
  setDevice(device) {
    remember('device', device);
    choose({ device, kept: keptWithout('device') });
  },
  /** @param {import('./files.js').Folder} folder */
  openModel({ name, files, kind }) {
    if (isAdapter(files)) {
      if (!state.model) return fail('model', t('model.is_adapter'), t('model.is_adapter_advice'));
      act.go('result');
      return act.openAdapter({ name, files });
    }
    const gguf = files.find((file) => /\.gguf$/i.test(file.name));
    opened.model = { name: name || gguf?.name || t('model.unnamed'), files, kind };
    send({ type: 'open_model', name: opened.model.name }, files);
  },
  async openStarter() {
    set({ busy: { ...state.busy, open_model: true } });
    try {
      act.openModel({ name: 'starter', files: await fromSite(STARTER.map((name) => `starter/${name}`)), kind: 'starter' });
    } catch (error) {
      set({ busy: { ...state.busy, open_model: false } });
      fail('model', error);
    }
  },
  /** @param {File[]} files */
  openData(files) {
    if (one(files, 'data')) sendData(files);
  },
  /** @param {File[]} files rows of their own to measure with, beside the training file */
  openHeldOut(files) {
    if (one(files, 'data')) sendData([opened.data[0], files[0]]);
  },
  closeHeldOut: () => sendData(opened.data.slice(0, 1)),
  async openSample() {
    set({ busy: { ...state.busy, open_data: true } });
    try {
      act.openData(await fromSite(SAMPLE));
    } catch (error) {
      set({ busy: { ...state.busy, open_data: false } });
      fail('data', error);
    }
  },
  /** @param {string} task */
  setTask: (task) => state.data && choose(mapped({ ...state, ...preset(state, state.data, task), kept: keptWithout('model.num_labels') })),
  /** @param {string} shape '' leaves it to the engine */
  setShape: (shape) => state.data && choose(mapped({ ...state, ...preset(state, state.data, state.task, shape) })),
  /** @param {string} role @param {string} name */
  setColumn(role, name) {
    const next = { ...state, columns: { ...state.columns, [role]: name } };
    choose(role === 'label' ? mapped(next) : next);
  },
  /** @param {boolean} regression */
  setRegression: (regression) => choose({ regression, kept: keptWithout('model.num_labels') }),
  /** @param {File[]} files a configuration in YAML */
  openConfig(files) {
    if (!one(files, 'config')) return;
    asked.config = files[0].name;
    send({ type: 'open_config' }, files);
  },
  /** @param {string} key @param {string} value */
  setField(key, value) {
    const form = { ...state.form, [key]: value };
    remember('settings', form);
    choose({ form });
  },
  resetForm() {
    remember('settings', {});
    choose({ form: {}, kept: {}, loaded: null });
  },
  check: () => send({ type: 'check', config: config() }),
  findRate() {
    set({ tuning: { ...state.tuning, points: [], curve: null } });
    send({ type: 'lr_find', config: config(), min_lr: 1e-6, max_lr: 1, num_training_steps: 100 });
  },
  /** @param {number} rate */
  useRate: (rate) => act.setField('learning_rate', String(Number(rate.toPrecision(2)))),
  /** @param {import('../ui/tuning.js').Tried} tried */
  trySettings({ rates, ranks, steps }) {
    const space = { ...(rates.length && { 'training.learning_rate': { list: rates } }), ...(ranks.length && { 'lora.r': { list: ranks } }) };
    const sweep = { base: config(), search: { strategy: 'grid', max_steps: steps }, space };
    sweeping = { sweep, results: [], trial: null };
    set({ tuning: { ...state.tuning, running: true, report: null, runs: 0, trial: '', best: null } });
    send({ type: 'sweep_next', sweep, results: [] });
  },
  useBest() {
    for (const [key, value] of Object.entries(state.tuning.best ?? {})) act.setField(key.split('.').at(-1) ?? key, String(value));
  },
  async start() {
    clearTimeout(checkTimer);
    set({ run: { ...noRun(), state: 'preparing' }, use: noUse(), prediction: null, trained: false, settings: runSettings(state) });
    act.go('train');
    Object.assign(under, { config: config(), tries: 0, smaller: 0 });
    const { name, kind } = opened.model ?? { name: '', kind: undefined };
    under.run = await begin({ kind: kind ?? (name.includes('/') ? 'hub' : 'files'), name }, opened.data);
    if (under.config) send({ type: 'start', config: under.config }, [], under.run);
  },
  /** The same once more with a hint's changes, which stay in the form. @param {Record<string, string>} changes */
  retry(changes) {
    const next = changed(state, changes);
    remember('settings', next.form);
    set({ ...next, stale: true, trouble: { ...state.trouble, settings: undefined } });
    act.start();
  },
  /** Takes up a run that a reload or a crash cut off. */
  async goOn() {
    const { cut } = state;
    if (!cut) return;
    const { data, settings, events } = await reopen(cut);
    let past = { ...state, run: noRun() };
    for (const event of events) if (['step', 'evaluation', 'checkpoint', 'resumed', 'recovery'].includes(event.type)) past = reduce(past, event, null, 0);
    set({ run: past.run, resuming: cut.run, plan: null, stale: true });
    Object.assign(under, { run: null, config: null, tries: 0, smaller: 0, waiting: new Set(['open_model', 'open_data', 'open_config']) });
    asked.config = settings.name;
    send({ type: 'open_config' }, [settings]);
    sendData(data);
    const { kind, name } = cut.meta.model;
    if (kind === 'starter') return act.openStarter();
    if (kind === 'hub') return hub.open(name);
    // A person's own folder can only be read when they choose it again.
    set({ model: null });
    act.go('model');
  },
  async forgetRun() {
    if (state.cut) await forget(state.cut.run);
    stopResuming();
    set({ cut: (await cutRuns())[0] ?? null });
  },
  pause: () => send({ type: 'pause' }),
  resume: () => send({ type: 'resume' }),
  stop() {
    set({ run: { ...state.run, stopping: true } });
    send({ type: 'stop' });
  },
  ...plugins.act,
  /** @param {import('./files.js').Folder} folder an adapter's files or its zip; none for the head of the model itself */
  openAdapter({ name, files }) {
    // Between two of their commands the engine would take it.
    if (state.plugins.working) return fail('result', t('plugins.wait'), '');
    asked.adapter = name || (files.length === 1 ? files[0].name : '');
    send({ type: 'open_adapter', config: adapterConfig() }, files);
  },
  /** On the opened data, with the columns that are mapped now. */
  evaluate: () => send({ type: 'evaluate', columns: Object.fromEntries(Object.entries(state.columns).filter(([, name]) => name)) }),
  /** @param {import('../ui/take.js').Choice} choice */
  exportAs: (choice) => send({ type: 'export', ...choice }),
  again: () => act.go('settings'),
  restart() {
    stopResuming();
    set({ engine: 'starting', crash: '', model: null, data: null, plan: null, heldOut: null, run: noRun(), use: noUse(), trained: false, prediction: null, busy: {}, trouble: {}, step: 'machine' });
    session.restart();
    send({ type: 'inspect' });
    if (opened.model) act.openModel(opened.model);
    if (opened.data.length) sendData(opened.data);
  },
};

function languagePicker() {
  const select = /** @type {HTMLSelectElement} */ (document.getElementById('language'));
  select.replaceChildren(...Object.entries(LANGUAGES).map(([value, name]) => h('option', { value, lang: value }, name)));
  select.value = currentLanguage();
  select.addEventListener('change', async () => {
    await setLanguage(select.value);
    mount();
  });
}

function mount() {
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.getAttribute('data-t') ?? '');
  document.getElementById('language')?.setAttribute('aria-label', t('page.language'));
  view = page(act);
  document.getElementById('app')?.replaceChildren(view.element);
  view.update(state);
}

// A file dropped beside a drop zone would make the browser leave the page, and the run with it.
for (const type of ['dragover', 'drop']) addEventListener(type, (event) => event.preventDefault());
addEventListener('beforeunload', (event) => {
  if (active(state)) event.preventDefault();
});

await setLanguage(preferredLanguage());
languagePicker();
mount();
send({ type: 'inspect' });
webGpu().then((gpu) => set({ gpu }));
storage().then((quota) => set({ quota }));
cutRuns().then(([cut]) => set({ cut: cut ?? null }));
