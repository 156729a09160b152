// @ts-check
import { clip, h } from '../ui/dom.js';
import { int, pct, t } from '../app/i18n.js';

/** Further ones share so little that nobody compares them. */
const MOST_ROWS = 12;

/**
 * Shares as a table with bars: the numbers are there for those who do not see the bars.
 * @param {{ title: string, of: string, rows: Array<{ label: string, n: number, share: number }>, testid: string }} options of: what a row is
 */
export function shareTable({ title, of, rows, testid }) {
  return h(
    'table',
    { class: 'table shares', 'data-testid': testid },
    h('caption', null, title),
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, of), h('th', { scope: 'col', class: 'number' }, t('plugins.share')), h('th', { scope: 'col', class: 'number' }, t('plugins.answers')))),
    h(
      'tbody',
      null,
      rows.slice(0, MOST_ROWS).map(({ label, n, share }) =>
        h(
          'tr',
          null,
          h(
            'th',
            { scope: 'row' },
            h('div', { class: 'share' }, h('span', null, clip(label, 60)), h('span', { class: 'bar-track', 'aria-hidden': 'true' }, h('span', { class: 'bar-fill', style: { width: `${(share * 100).toFixed(2)}%` } }))),
          ),
          h('td', { class: 'number' }, pct(share, share < 0.1 ? 1 : 0)),
          h('td', { class: 'number hint' }, int(n)),
        ),
      ),
    ),
    rows.length > MOST_ROWS ? h('tfoot', null, h('tr', null, h('td', { colspan: 3, class: 'hint' }, t('common.more', { n: rows.length - MOST_ROWS })))) : null,
  );
}
