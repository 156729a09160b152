// @ts-check
import { clip, h } from '../ui/dom.js';
import { int, t } from '../app/i18n.js';

/** More classes than this make a matrix that nobody reads. */
export const MOST_CLASSES = 12;

/**
 * `confusion[actual][predicted]` as a table; the shade is the share of the actual class.
 * @param {string} title @param {string[]} labels @param {number[][]} confusion
 */
export function confusionMatrix(title, labels, confusion) {
  return h(
    'div',
    { class: 'table-scroll' },
    h(
      'table',
      { class: 'confusion' },
      h('caption', null, title),
      h(
        'thead',
        null,
        h('tr', null, h('td', { class: 'corner' }, t('result.actual_predicted')), labels.map((label) => h('th', { scope: 'col' }, clip(label, 24)))),
      ),
      h(
        'tbody',
        null,
        confusion.map((row, actual) => {
          const total = row.reduce((sum, n) => sum + n, 0);
          return h(
            'tr',
            null,
            h('th', { scope: 'row' }, clip(labels[actual] ?? '', 24)),
            row.map((n, predicted) => {
              const share = total ? n / total : 0;
              const tone = actual === predicted ? 'right' : 'wrong';
              return h('td', { class: tone, style: { '--share': share.toFixed(3) } }, int(n));
            }),
          );
        }),
      ),
    ),
  );
}
