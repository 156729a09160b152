// @ts-check
/** The whole page in the current language: the steps, the open one's panel, and what stands above them. */
import { button } from './common.js';
import { cutRunNotice } from './cutrun.js';
import { dataPanel } from './data.js';
import { h } from './dom.js';
import { machinePanel } from './machine.js';
import { modelPanel } from './model.js';
import { resultPanel } from './result.js';
import { settingsPanel } from './settings.js';
import { STEPS, stepper } from './stepper.js';
import { trainPanel } from './train.js';
import { active } from '../app/store.js';
import { pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */

/** @param {any} act what a person can do; each panel names its own part @returns {import('./dom.js').Part} */
export function page(act) {
  const panels = { machine: machinePanel(act), model: modelPanel(act), data: dataPanel(act), settings: settingsPanel(act), train: trainPanel(act), result: resultPanel(act) };
  const nav = stepper(act.go);
  const crash = crashNotice(act.restart);
  const cut = cutRunNotice(act);
  const element = h('div', { class: 'layout' }, nav.element, h('main', { id: 'main' }, crash.element, cut.element, STEPS.map((step) => panels[step].element)));
  return {
    element,
    /** @param {State} now */
    update(now) {
      document.title = title(now);
      nav.update(now);
      crash.update(now);
      cut.update(now);
      for (const step of STEPS) {
        panels[step].element.hidden = step !== now.step;
        panels[step].update(now);
      }
    },
  };
}

/** How far the run is, for those who look at another tab meanwhile. @param {State} now */
function title(now) {
  const last = now.run.steps.at(-1);
  if (!active(now) || !last) return t('page.title');
  return `${pct(last.step / Math.max(1, last.total_steps), 0)} · ${t(`state.${now.run.state}`)} – Paddock`;
}

/** @param {() => void} restart */
function crashNotice(restart) {
  const message = h('p', { class: 'crash-message', 'data-testid': 'crash-message' });
  const element = h(
    'div',
    { class: 'notice notice-error crash', role: 'alert', 'data-testid': 'crash', hidden: true },
    h('p', { class: 'notice-title' }, t('crash.title')),
    h('p', null, t('crash.body')),
    message,
    h('div', { class: 'actions' }, button(t('crash.again'), 'restart', restart, 'primary')),
  );
  return {
    element,
    /** @param {State} now */
    update(now) {
      element.hidden = now.engine !== 'crashed';
      if (message.textContent !== now.crash) message.textContent = now.crash;
    },
  };
}
