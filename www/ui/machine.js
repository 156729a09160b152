// @ts-check
import { h, region, updateAll } from './dom.js';
import { button, card, fact, facts, spinner, trouble } from './common.js';
import { DEVICES } from '../app/config.js';
import { bytes, int, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').DeviceInfo} DeviceInfo */

/** @param {{ setDevice(device: string): void, go(step: import('../app/store.js').Panel): void }} act */
export function machinePanel(act) {
  const error = trouble('machine');
  const choice = deviceChoice(act.setDevice);
  const report = region(
    h('div', { class: 'stack', 'data-testid': 'environment' }),
    (state) => [state.environment, state.gpu, state.quota, state.engine],
    (state) => (state.environment ? environment(state) : state.engine === 'crashed' ? [] : spinner(true, t('machine.looking'))),
  );
  const gpu = region(
    h('div', null),
    (state) => [state.gpu],
    ({ gpu }) =>
      gpu && gpu !== 'ok'
        ? h(
            'div',
            { class: 'notice notice-info', 'data-testid': 'no-webgpu' },
            h('p', { class: 'notice-title' }, t(`webgpu.${gpu}`)),
            h('p', null, t('webgpu.browsers')),
            h('p', null, t('webgpu.cpu_works')),
          )
        : [],
  );
  const use = button(t('model.use_adapter'), 'have-adapter', () => act.go('result'));
  const next = button(t('common.continue'), 'next-machine', () => act.go('model'), 'primary');
  return {
    element: card('machine', error.element, choice.element, gpu.element, report.element, h('footer', { class: 'panel-foot' }, use, next)),
    update: updateAll([error, choice, report, gpu]),
  };
}

/** @param {(device: string) => void} setDevice */
function deviceChoice(setDevice) {
  const inputs = DEVICES.map((device) => {
    const input = h('input', { type: 'radio', name: 'device', value: device, 'data-testid': `device-${device}`, onchange: () => setDevice(device) });
    const note = h('span', { class: 'hint' }, t(`device.${device}_hint`));
    return { device, input, note, label: h('label', { class: 'choice' }, input, h('span', { class: 'choice-text' }, h('strong', null, t(`device.${device}`)), note)) };
  });
  const reason = h('p', { class: 'reason', 'data-testid': 'device-reason', role: 'status' });
  return {
    element: h(
      'fieldset',
      { class: 'choices', 'data-testid': 'device-select' },
      h('legend', null, t('machine.device')),
      h('div', { class: 'choice-row' }, inputs.map(({ label }) => label)),
      reason,
    ),
    /** @param {State} state */
    update(state) {
      const devices = state.environment?.devices ?? [];
      for (const { device, input } of inputs) {
        input.checked = state.device === device;
        // What was chosen stays choosable, so that a remembered GPU that is gone gets the engine's explanation.
        input.disabled = device !== 'auto' && Boolean(state.environment) && state.device !== device && !devices.some(({ id }) => id === device);
      }
      const chosen = state.environment?.chosen ?? '';
      const text = !chosen ? '' : state.device === 'auto' ? t('machine.will_use', { device: t(`device.${chosen}`) }) : t('machine.you_chose', { device: t(`device.${state.device}`) });
      const why = state.device === 'auto' && state.environment ? ` ${because(state.environment)}` : '';
      if (reason.textContent !== text + why) reason.textContent = text + why;
    },
  };
}

/**
 * The engine's reason in the person's language; its own words where it had another one than these.
 * @param {NonNullable<State['environment']>} environment
 */
function because({ devices, chosen, reason }) {
  const gpu = devices.find(({ id }) => id === 'gpu');
  if (!gpu && chosen === 'cpu') return t('machine.because_none');
  if (gpu?.software && chosen === 'cpu') return t('machine.because_software', { name: gpu.name });
  if (gpu && !gpu.software && chosen === 'gpu') return t('machine.because_hardware', { name: gpu.name });
  return reason;
}

/** @param {State} state */
function environment({ environment, quota }) {
  if (!environment) return [];
  const free = quota ? quota.quota - quota.usage : environment.storage_free;
  return [
    h('div', { class: 'grid-2' }, environment.devices.map(device)),
    facts(
      free === null ? null : fact(t('machine.storage'), bytes(free), { testid: 'storage', hint: t('machine.storage_hint') }),
      fact(t('machine.cores'), int(navigator.hardwareConcurrency || 1)),
      fact(t('machine.version'), environment.version),
    ),
    environment.notes.length ? h('ul', { class: 'plain hint' }, environment.notes.map((note) => h('li', null, note))) : null,
  ];
}

/** Limits that are sizes; the others are plain counts. @param {string} name */
const isSize = (name) => /size$/i.test(name);

/** @param {DeviceInfo} info */
function device(info) {
  const limits = Object.entries(info.limits);
  return h(
    'article',
    { class: 'device', 'data-testid': `device-report-${info.id}` },
    h('p', { class: 'overline' }, info.id === 'gpu' ? t('device.gpu') : t('device.cpu')),
    h('h3', null, info.name),
    h('p', { class: 'tags' }, h('span', { class: 'tag' }, info.api), info.software ? h('span', { class: 'tag tag-warn' }, t('machine.software')) : null),
    info.features.length || limits.length
      ? h(
          'details',
          null,
          h('summary', null, t('machine.details')),
          info.features.length ? h('p', { class: 'tags' }, info.features.map((feature) => h('span', { class: 'tag tag-code' }, feature))) : null,
          h(
            'table',
            { class: 'table table-plain' },
            h('tbody', null, limits.map(([name, value]) => h('tr', null, h('th', { scope: 'row' }, h('code', null, name)), h('td', { class: 'number' }, isSize(name) ? bytes(value) : int(value))))),
          ),
        )
      : null,
  );
}
