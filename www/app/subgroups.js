// @ts-check
/**
 * wgpu cannot ask a browser for subgroups yet. This asks for them beside what it asks for, and leaves word for the engine (crate/src/device.rs)
 * when they came. To be loaded before the engine opens a GPU.
 */

const SUBGROUPS = 'subgroups';
/** @type {any} */
const adapter = Reflect.get(globalThis, 'GPUAdapter')?.prototype;

if (adapter) {
  const { requestDevice } = adapter;
  /** @param {{ requiredFeatures?: Iterable<string> }} [descriptor] @this {{ features: Set<string> }} */
  adapter.requestDevice = async function (descriptor = {}) {
    if (!this.features.has(SUBGROUPS)) return requestDevice.call(this, descriptor);
    const requiredFeatures = [...new Set([...(descriptor.requiredFeatures ?? []), SUBGROUPS])];
    const device = await requestDevice.call(this, { ...descriptor, requiredFeatures });
    Reflect.set(globalThis, 'paddockSubgroups', device.features.has(SUBGROUPS));
    return device;
  };
}
