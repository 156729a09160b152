// @ts-check
/** The notice above everything when a run was cut off by a reload or a crash: go on, or forget it. */
import { h, region } from './dom.js';
import { button } from './common.js';
import { int, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */

/** @param {{ goOn(): void, forgetRun(): void }} act */
export function cutRunNotice(act) {
  return region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.cut, state.resuming, state.model],
    (/** @type {State} */ { cut, resuming, model }) => {
      if (!cut) return '';
      const { meta, saved, step, total } = cut;
      const what = { data: meta.data[0], model: meta.model.name, step: int(Math.max(step, saved)), total: total ? int(total) : '?', saved: int(saved), when: new Date(meta.begun).toLocaleString() };
      const waiting = resuming !== null && !model;
      return h(
        'div',
        { class: 'notice notice-info', role: 'status', 'data-testid': 'cut-run' },
        h('p', { class: 'notice-title' }, t('cut.title')),
        h('p', null, t('cut.body', what)),
        cut.elsewhere
          ? h('p', { 'data-testid': 'cut-elsewhere' }, t('cut.elsewhere'))
          : waiting && meta.model.kind === 'files'
            ? h('p', { 'data-testid': 'cut-choose' }, t('cut.choose', what))
            : '',
        h(
          'div',
          { class: 'actions' },
          resuming || cut.elsewhere ? '' : button(t('cut.go_on'), 'cut-go-on', act.goOn, 'primary'),
          cut.elsewhere ? '' : button(t('cut.forget'), 'cut-forget', act.forgetRun),
        ),
      );
    },
  );
}
