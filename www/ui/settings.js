// @ts-check
import { h, region, setText, updateAll } from './dom.js';
import { button, card, droppable, fact, facts, spinner, trouble, warnings } from './common.js';
import { tuningPart } from './tuning.js';
import { loadButton, loadedPart, yamlPart } from './yaml.js';
import { examples } from './text.js';
import { scenarioName, shapeName } from './tasks.js';
import { FIELDS, METRICS_OF_TASK, MODULES, namedField, taken, unreadable } from '../app/config.js';
import { metricsOf } from '../app/metrics.js';
import { occupied } from '../app/store.js';
import { generates, scenarioOf } from '../app/tasks.js';
import { bytes, compact, int, pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../app/config.js').Field} Field */

/**
 * @param {import('./tuning.js').Act & { setField(key: string, value: string): void, resetForm(): void, openConfig(files: File[]): void, check(): void, start(): void }} act
 */
export function settingsPanel(act) {
  const fields = FIELDS.map((field) => ({ field, part: fieldPart(field, act.setField) }));
  /** @param {import('../app/config.js').Group} group */
  const group = (group) => h('div', { class: 'form-grid' }, fields.filter(({ field }) => field.group === group).map(({ part }) => part.element));
  const heldOut = heldOutPart();
  const basic = group('basic');
  basic.append(heldOut.element);
  const lora = h('fieldset', { class: 'group' }, h('legend', null, t('settings.lora')), h('p', { class: 'hint' }, t('settings.lora_hint')), group('lora'));
  const form = h(
    'form',
    { class: 'stack', novalidate: true, onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), act.check()) },
    h('fieldset', { class: 'group' }, h('legend', null, t('settings.basic')), basic),
    lora,
    h('details', { class: 'group' }, h('summary', { 'data-testid': 'measuring' }, t('settings.measuring')), h('p', { class: 'hint' }, t('settings.measuring_hint')), group('measuring')),
    h('details', { class: 'group' }, h('summary', { 'data-testid': 'advanced' }, t('settings.advanced')), h('p', { class: 'hint' }, t('settings.advanced_hint')), group('advanced')),
    h('details', { class: 'group' }, h('summary', { 'data-testid': 'care' }, t('settings.care')), h('p', { class: 'hint' }, t('settings.care_hint')), group('care')),
  );
  const tuning = tuningPart(act);
  const file = h('div', { class: 'actions' }, loadButton(act), h('span', { class: 'hint' }, t('yaml.drop')), h('span', { class: 'push' }), button(t('settings.reset'), 'reset-settings', act.resetForm));
  const unread = trouble('config', 'config-error');
  const loaded = loadedPart();
  const yaml = yamlPart(act);
  const error = trouble('settings');
  const plan = region(
    h('div', { class: 'stack', 'aria-live': 'polite' }),
    (state) => [state.plan, state.busy.check, state.stale, state.trouble.settings, state.environment],
    (state) => {
      const checking = Boolean(state.busy.check);
      if (state.trouble.settings || !state.plan) return spinner(checking, t('settings.checking'));
      return planCard(state, state.plan, checking);
    },
  );
  const start = button(t('settings.start'), 'start', act.start, 'primary');
  const check = button(t('settings.check'), 'check', act.check);
  const footer = {
    element: h('footer', { class: 'panel-foot' }, check, start),
    update: (/** @type {State} */ state) => {
      const odd = unreadable(state.form);
      start.disabled = !state.model || !state.data || odd.length > 0 || occupied(state) || Boolean(state.trouble.settings) || state.engine !== 'ready';
      check.disabled = !state.model || !state.data || odd.length > 0 || Boolean(state.busy.check);
      lora.hidden = state.form.method === 'full';
    },
  };
  const side = h('div', { class: 'stack side' }, error.element, plan.element, yaml.element);
  const element = card('settings', file, unread.element, loaded.element, h('div', { class: 'split' }, h('div', { class: 'stack' }, form, tuning.element), side), footer.element);
  return {
    element: droppable(element, (transfer) => act.openConfig([...transfer.files])),
    update: updateAll([...fields.map(({ part }) => part), heldOut, tuning, unread, loaded, error, plan, yaml, footer]),
  };
}

/** In the place of the held-out share where a file has the held-out rows. */
function heldOutPart() {
  const name = h('p', { class: 'field-value', 'data-testid': 'held-out-file' });
  const element = h('div', { class: 'field', hidden: true }, h('span', { class: 'field-name' }, t('settings.held_out')), name, h('span', { class: 'hint' }, t('settings.held_out_hint')));
  return {
    element,
    /** @param {State} state */
    update({ heldOut }) {
      element.hidden = !heldOut;
      if (heldOut) setText(name, heldOut.name);
    },
  };
}

/** A choice in words; metrics have theirs where results are shown. @param {Field} field @param {string} option */
const optionName = ({ key, options }, option) => t(options === METRICS_OF_TASK ? `metric.${option}` : `fields.${key}.${option}`);

/** @param {Field} field @param {string[]} options */
const listed = (field, options) => options.map((option) => h('option', { value: option }, optionName(field, option)));

/** The metrics of the task at hand, and the one that is chosen, as a file can name any: the engine says what is wrong with it. @param {State} state @param {string} value */
function metricsHere(state, value) {
  const there = metricsOf(scenarioOf(state, state.task), state.regression);
  return !value || there.includes(/** @type {any} */ (value)) ? there : [...there, value];
}

/** @param {Field} field @param {(key: string, value: string) => void} setField */
function fieldPart(field, setField) {
  const { key, kind } = field;
  const id = `field-${key}`;
  const hint = h('span', { class: 'hint', id: `${id}-hint` }, t(`fields.${key}.hint`), h('code', { class: 'key' }, key));
  const wrong = h('span', { class: 'field-error', id: `${id}-error`, hidden: true });
  const described = { 'aria-describedby': `${id}-hint ${id}-error` };
  const name = h('span', { class: 'field-name' }, t(`fields.${key}.name`));
  if (kind === 'modules') return modulesPart(field, setField, name, hint);

  const control =
    kind === 'choice'
      ? h('select', { id, 'data-testid': id, ...described }, h('option', { value: '' }, ''), listed(field, Array.isArray(field.options) ? field.options : []))
      : h('input', { id, 'data-testid': id, type: 'text', inputmode: kind === 'integer' ? 'numeric' : 'decimal', autocomplete: 'off', spellcheck: 'false', ...described });
  control.addEventListener(kind === 'choice' ? 'change' : 'input', () => setField(key, control.value.trim()));
  /** @type {import('../protocol.js').Plan['config'] | null} */
  let shown = null;
  let offered = '';
  const element = h('label', { class: 'field', for: id }, name, control, hint, wrong);
  return {
    element,
    /** @param {State} state */
    update(state) {
      element.hidden = (key === 'validation_split' && state.heldOut !== null) || Boolean(field.answers && !generates(state, state.task));
      const value = state.form[key] ?? '';
      if (field.options === METRICS_OF_TASK) {
        const options = metricsHere(state, value);
        if (options.join() !== offered) control.replaceChildren(/** @type {HTMLElement} */ (control.firstElementChild), ...listed(field, options));
        offered = options.join();
      }
      if (control.value.trim() !== value) control.value = value;
      const odd = unreadable(state.form).includes(key);
      const failure = state.trouble.settings;
      const refused = !odd && failure !== undefined && namedField(failure.message) === key;
      // What is wrong may stand in a part that is closed.
      if (refused && wrong.hidden) element.closest('details')?.setAttribute('open', '');
      wrong.hidden = !odd && !refused;
      setText(wrong, odd ? t(kind === 'integer' ? 'settings.not_integer' : 'settings.not_number') : refused ? failure.message : '');
      control.setAttribute('aria-invalid', String(odd || refused));
      if (state.plan && state.plan.config !== shown) {
        shown = state.plan.config;
        const used = taken(shown, field);
        const text = used === undefined ? t('settings.unset') : t('settings.default', { value: field.options ? optionName(field, used) : used });
        if (control instanceof HTMLInputElement) control.placeholder = value === '' ? text : '';
        else if (value === '') setText(control.options[0], text);
      } else if (!shown && control instanceof HTMLSelectElement) setText(control.options[0], t('settings.unset'));
    },
  };
}

/** @param {Field} field @param {(key: string, value: string) => void} setField @param {HTMLElement} name @param {HTMLElement} hint */
function modulesPart({ key }, setField, name, hint) {
  const boxes = MODULES.map((module) => {
    const input = h('input', { type: 'checkbox', value: module, 'data-testid': `module-${module}` });
    input.addEventListener('change', () => {
      const on = boxes.filter(({ input }) => input.checked).map(({ module }) => module);
      // None and all are both the default: an adapter without any module could learn nothing.
      setField(key, on.length === MODULES.length || on.length === 0 ? '' : on.join(','));
    });
    return { module, input, label: h('label', { class: 'chip' }, input, h('code', null, module)) };
  });
  return {
    element: h('div', { class: 'field field-wide', role: 'group', 'aria-label': t(`fields.${key}.name`) }, name, h('div', { class: 'chips' }, boxes.map(({ label }) => label)), hint),
    /** @param {State} state */
    update(state) {
      const value = state.form[key] ?? '';
      const on = value === '' ? MODULES : value.split(',');
      for (const { module, input } of boxes) input.checked = on.includes(module);
    },
  };
}

/** @param {State} state @param {import('../protocol.js').Plan} plan @param {boolean} checking a newer one is on its way */
function planCard(state, plan, checking) {
  const task = plan.config.task ?? state.task;
  const kind = generates(state, task) ? 'generation' : plan.config.model.num_labels === 1 ? 'regression' : 'classification';
  const memory = [
    { name: t('plan.weights'), bytes: plan.weight_bytes, tone: 'tone-1' },
    { name: t('plan.training'), bytes: plan.training_bytes, tone: 'tone-2' },
    { name: t('plan.activations'), bytes: plan.activation_bytes, tone: 'tone-3' },
  ];
  const total = memory.reduce((sum, part) => sum + part.bytes, 0);
  return h(
    'article',
    { class: 'sheet', 'data-testid': 'plan' },
    h('p', { class: 'overline', role: 'status' }, t(checking ? 'settings.checking' : 'plan.title')),
    h('p', { class: 'plan-task', 'data-testid': 'plan-task' }, h('strong', null, scenarioName(state, task)), h('span', { class: 'hint' }, ` ${shapeName(plan.shape)}`)),
    facts(
      fact(t('plan.rows'), int(plan.train_rows), { hint: t('plan.held_out', { n: plan.validation_rows }), testid: 'plan-rows' }),
      fact(t('plan.steps'), int(plan.total_steps), { hint: t(`device.${plan.device}`), testid: 'plan-steps' }),
      fact(t('plan.precision'), t(`plan.bits.${plan.precision}`), { hint: plan.precision === 'f16' ? t('plan.bits.f16_hint') : undefined, testid: 'plan-precision' }),
      fact(t('plan.trainable'), compact(plan.trainable_parameters), { hint: t('plan.of_all', { share: pct(plan.trainable_parameters / Math.max(1, plan.total_parameters)) }) }),
      plan.labels.length ? fact(t('plan.labels'), int(plan.labels.length), { hint: plan.labels.slice(0, 6).join(' · ') }) : null,
      kind === 'regression' ? fact(t('plan.predicts'), t('data.target_number')) : null,
      plan.skipped_rows ? fact(t('plan.skipped'), int(plan.skipped_rows), { tone: 'fact-warn', testid: 'plan-skipped' }) : null,
    ),
    examples(plan, kind),
    h('h3', { class: 'small-head' }, t('plan.memory', { bytes: bytes(total) })),
    h('div', { class: 'stacked', 'aria-hidden': 'true' }, memory.map((part) => h('span', { class: part.tone, style: { 'flex-grow': Math.max(part.bytes, total / 200) } }))),
    h('ul', { class: 'legend' }, memory.map((part) => h('li', null, h('span', { class: `swatch ${part.tone}`, 'aria-hidden': 'true' }), part.name, ' ', h('strong', null, bytes(part.bytes))))),
    warnings(plan.warnings, t('plan.warnings'), 'plan-warnings'),
  );
}
