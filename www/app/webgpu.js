// @ts-check
/**
 * What this browser itself says about WebGPU, so that the page can name the way out in the person's language.
 * @typedef {'ok' | 'insecure' | 'no_api' | 'no_adapter'} WebGpu
 * @returns {Promise<WebGpu>}
 */
export async function webGpu() {
  if (!isSecureContext) return 'insecure';
  const gpu = /** @type {any} */ (navigator).gpu;
  if (!gpu) return 'no_api';
  try {
    return (await gpu.requestAdapter()) ? 'ok' : 'no_adapter';
  } catch {
    return 'no_adapter';
  }
}

/** @returns {Promise<{ quota: number, usage: number } | null>} */
export async function storage() {
  try {
    const { quota, usage } = await navigator.storage.estimate();
    return quota === undefined ? null : { quota, usage: usage ?? 0 };
  } catch {
    return null;
  }
}
