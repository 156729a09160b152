// @ts-check
/**
 * What wgpu leaves out in a browser, put in front of WebGPU. To be loaded before the engine opens a GPU.
 *
 * Subgroups: wgpu cannot ask for them. Here they are asked for beside what it asks for, and `paddockSubgroups` tells the engine when they came.
 *
 * Buffers: wgpu lets go of a buffer and does not destroy it, and a browser frees it when it collects garbage next, which a few small objects are
 * no reason for. The engine calls `paddockBuffersFreed` when it has given up buffers (both: crate/src/device.rs), with nothing recorded that is
 * not submitted; those that it has no more are destroyed here.
 */

const SUBGROUPS = 'subgroups';
/** Buffers that are made from one look to the next, where nobody asks for one. */
const MANY = 4096;

/** @typedef {{ size: number, destroy(): void }} Buffer */
/** @type {any} */
const world = globalThis;
/** Every buffer that may still be there. @type {Set<WeakRef<Buffer>>} */
let buffers = new Set();
let seen = 0;
/** The objects that the engine's module holds. @type {WebAssembly.Table | undefined} */
let objects;

/** @param {WebAssembly.Exports | undefined} exports the engine's module's, as wasm-bindgen made it */
export function watch(exports) {
  const table = exports?.__wbindgen_externrefs;
  if (table instanceof WebAssembly.Table) objects = table;
}

/** Destroys the buffers that the engine has no more. What was submitted with them still runs. @param {WebAssembly.Table} table */
function destroyLost(table) {
  const held = new Set();
  for (let i = 0; i < table.length; i += 1) held.add(table.get(i));
  /** @type {typeof buffers} */
  const left = new Set();
  for (const reference of buffers) {
    const buffer = reference.deref();
    if (!buffer) continue;
    if (held.has(buffer)) left.add(reference);
    else buffer.destroy();
  }
  buffers = left;
  seen = left.size;
}

const adapter = world.GPUAdapter?.prototype;
if (adapter) {
  const { requestDevice } = adapter;
  /** @param {{ requiredFeatures?: Iterable<string> }} [descriptor] @this {{ features: Set<string> }} */
  adapter.requestDevice = async function (descriptor = {}) {
    if (!this.features.has(SUBGROUPS)) return requestDevice.call(this, descriptor);
    const requiredFeatures = [...new Set([...(descriptor.requiredFeatures ?? []), SUBGROUPS])];
    const device = await requestDevice.call(this, { ...descriptor, requiredFeatures });
    world.paddockSubgroups = device.features.has(SUBGROUPS);
    return device;
  };

  const device = world.GPUDevice.prototype;
  const { createBuffer } = device;
  /** @param {unknown} descriptor */
  device.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    buffers.add(new WeakRef(buffer));
    return buffer;
  };

  const queue = world.GPUQueue.prototype;
  const { submit } = queue;
  /** @param {unknown} commands */
  queue.submit = function (commands) {
    submit.call(this, commands);
    // Not before: what was recorded may still name a buffer that is let go.
    if (objects && buffers.size > seen + MANY) destroyLost(objects);
  };

  world.paddockBuffersFreed = () => {
    if (objects) destroyLost(objects);
  };
}
