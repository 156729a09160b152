// @ts-check
/** The formats that a trained model can be taken along in. */
import { h } from './dom.js';
import { settingsInUse } from '../app/store.js';
import { t } from '../app/i18n.js';

/** @typedef {{ format: import('../protocol.js').ExportFormat, dtype?: import('../protocol.js').ExportDType, zip: boolean }} Choice */

/** @type {Record<string, Choice>} */
const CHOICES = {
  adapter: { format: 'adapter', zip: true },
  merged: { format: 'merged', zip: true },
  gguf_f16: { format: 'gguf', dtype: 'f16', zip: false },
  gguf_q8_0: { format: 'gguf', dtype: 'q8_0', zip: false },
  gguf_lora: { format: 'gguf_lora', zip: false },
};

/** A choice among the formats that fit what was trained: no adapter after full fine-tuning, no GGUF of a classifier. */
export function formatChoice() {
  const select = h('select', { id: 'export-format', 'data-testid': 'export-format' });
  const element = h('label', { class: 'field-name', for: 'export-format' }, t('result.format'), ' ', select);
  /** @type {string[]} */
  let shown = [];
  return {
    element,
    choice: () => CHOICES[select.value] ?? CHOICES.adapter,
    /** @param {import('../app/store.js').State} state */
    update(state) {
      const settings = settingsInUse(state);
      const generates = settings?.kind === 'generation';
      const fits = Object.entries(CHOICES)
        .filter(([, { format }]) => (settings?.full ? format === 'merged' || format === 'gguf' : true) && (generates || !format.startsWith('gguf')))
        .map(([name]) => name);
      if (fits.join() === shown.join()) return;
      shown = fits;
      select.replaceChildren(...fits.map((name) => h('option', { value: name }, t(`result.formats.${name}`))));
    },
  };
}
