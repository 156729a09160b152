// @ts-check
/** Keeps the screen, and with it the computer, awake while a run trains, as far as the browser lets a page do that. */

/** @type {any} */
let lock = null;
let wanted = false;

async function take() {
  if (!wanted || lock || document.hidden) return;
  try {
    lock = await /** @type {any} */ (navigator).wakeLock?.request('screen');
    lock?.addEventListener('release', () => (lock = null));
    // It may have been let go of while the browser thought about it.
    if (!wanted) await lock?.release();
  } catch {
    // On battery, or forbidden: the page's note about it stands anyway.
    lock = null;
  }
}

// The browser takes it back whenever the tab is hidden.
document.addEventListener('visibilitychange', take);

/** @param {boolean} on */
export function keepAwake(on) {
  if (on === wanted) return;
  wanted = on;
  if (on) take();
  else lock?.release();
}
