// @ts-check
import { h } from './dom.js';
import { button } from './common.js';
import { bytes, pct, t } from '../app/i18n.js';
import { Hub, repoOf, tokenOf } from '../app/hub.js';

/** Lives as long as the page: a change of language draws the part anew and breaks nothing off. */
export const hub = new Hub();
let draft = '';
/** Nowhere but here: it is gone with the page. */
let secret = '';

/** A model by its name on the hub, and those that were fetched before. @param {(folder: import('../app/files.js').Folder) => void} open */
export function hubPart(open) {
  const input = h('input', { id: 'hub-repo', type: 'text', 'data-testid': 'hub-repo', placeholder: t('hub.placeholder'), autocomplete: 'off', spellcheck: 'false', value: draft });
  const token = h('input', { id: 'hub-token', type: 'password', 'data-testid': 'hub-token', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'hub-token-hint', value: secret });
  const fetch = h('button', { type: 'submit', class: 'button button-plain', 'data-testid': 'hub-fetch' }, t('hub.fetch'));
  const stop = button(t('hub.stop'), 'hub-stop', hub.cancel);
  const status = h('div', { class: 'stack-tight', 'aria-live': 'polite', 'data-testid': 'hub-status' });
  const stored = h('ul', { class: 'stack-tight', 'data-testid': 'hub-models' });
  const submit = () => {
    const [repo, own] = [repoOf(input.value), tokenOf(token.value)];
    if (repo && own !== null) hub.fetch(repo, own);
    input.setCustomValidity(repo ? '' : t('hub.bad_name'));
    token.setCustomValidity(own === null ? t('hub.bad_token') : '');
    if (input.reportValidity()) token.reportValidity();
  };
  input.addEventListener('input', () => {
    draft = input.value;
    input.setCustomValidity('');
  });
  token.addEventListener('input', () => {
    secret = token.value;
    token.setCustomValidity('');
  });
  const draw = () => {
    const { models, busy, progress, failed } = hub.state;
    fetch.disabled = Boolean(busy);
    stop.hidden = !busy;
    const share = progress?.total ? progress.done / progress.total : 0;
    const params = { ...failed?.params };
    for (const key of ['need', 'free']) if (typeof params[key] === 'number') params[key] = bytes(params[key]);
    status.replaceChildren(
      ...(busy ? [h('progress', { max: '1', value: String(share), 'aria-label': busy }), h('p', { class: 'hint' }, progress ? t('hub.progress', { file: progress.file, share: pct(share), total: bytes(progress.total) }) : t('hub.asking'))] : []),
      ...(failed ? [h('p', { class: 'verdict verdict-bad', role: 'alert', 'data-testid': 'hub-failed' }, t(`hub.failed.${failed.key}`, params))] : []),
    );
    stored.replaceChildren(
      ...models.map(({ repo, bytes: size }) =>
        h(
          'li',
          { class: 'actions' },
          h('span', null, `${repo} · ${bytes(size)}`),
          button(t('hub.open'), `hub-open-${repo}`, () => hub.open(repo)),
          button(t('hub.remove'), `hub-remove-${repo}`, () => hub.remove(repo)),
        ),
      ),
    );
  };
  hub.listen(draw, open);
  draw();
  return h(
    'article',
    { class: 'offer' },
    h('h3', null, t('hub.title')),
    h('p', null, t('hub.hint')),
    h(
      'form',
      { class: 'stack-tight', onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), submit()) },
      h('label', { for: 'hub-repo', class: 'field-name' }, t('hub.repo')),
      input,
      h('label', { for: 'hub-token', class: 'field-name' }, t('hub.token')),
      token,
      h('p', { id: 'hub-token-hint', class: 'hint' }, t('hub.token_hint')),
      h('div', { class: 'actions' }, fetch, stop),
    ),
    status,
    stored,
  );
}
