// Counts what a tab asks of WebGPU: launches, submissions, pipelines, transfers, and the bytes of the buffers that exist. To be loaded
// before whoever uses WebGPU: it puts its own functions in front of the browser's. Works in a page and in a worker.

const STORAGE = 0x80

/** Since the beginning. `written`: what was handed to the queue as numbers, `read`: buffers that were mapped to be read. */
const asked = { launches: 0, submissions: 0, passes: 0, copies: 0, bindings: 0, pipelines: 0, modules: 0, written: 0, read: 0, buffers: 0, created_bytes: 0, destroyed: 0 }
const held = { buffers: 0, storage: 0, most_buffers: 0, most_storage: 0 }
const sizes = new WeakMap()
// A buffer that nobody destroys is gone when nobody has it.
const gone = new FinalizationRegistry((entry) => take(entry, -1))

function take({ size, storage }, sign) {
  held.buffers += sign * size
  if (storage) held.storage += sign * size
  held.most_buffers = Math.max(held.most_buffers, held.buffers)
  held.most_storage = Math.max(held.most_storage, held.storage)
}

/** Calls `before` ahead of a method that stays as it is; what this browser has not got is not counted. */
function ahead(type, name, before) {
  const original = globalThis[type]?.prototype[name]
  if (!original) return
  globalThis[type].prototype[name] = function (...words) {
    before.apply(this, words)
    return original.apply(this, words)
  }
}

const one = (name) => () => {
  asked[name] += 1
}

ahead('GPUComputePassEncoder', 'dispatchWorkgroups', one('launches'))
ahead('GPUComputePassEncoder', 'dispatchWorkgroupsIndirect', one('launches'))
ahead('GPUQueue', 'submit', one('submissions'))
ahead('GPUQueue', 'writeBuffer', one('written'))
ahead('GPUCommandEncoder', 'beginComputePass', one('passes'))
ahead('GPUCommandEncoder', 'copyBufferToBuffer', one('copies'))
ahead('GPUDevice', 'createBindGroup', one('bindings'))
ahead('GPUDevice', 'createComputePipeline', one('pipelines'))
ahead('GPUDevice', 'createComputePipelineAsync', one('pipelines'))
ahead('GPUDevice', 'createShaderModule', one('modules'))
ahead('GPUBuffer', 'mapAsync', function (mode) {
  // GPUMapMode.READ
  if (mode & 1) asked.read += 1
})
ahead('GPUBuffer', 'destroy', function () {
  const entry = sizes.get(this)
  if (!entry) return
  sizes.delete(this)
  gone.unregister(entry)
  asked.destroyed += 1
  take(entry, -1)
})

if (typeof GPUDevice === 'function') {
  const { createBuffer } = GPUDevice.prototype
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor)
    const entry = { size: descriptor.size, storage: (descriptor.usage & STORAGE) !== 0 }
    sizes.set(buffer, entry)
    gone.register(buffer, entry, entry)
    asked.buffers += 1
    asked.created_bytes += entry.size
    take(entry, 1)
    return buffer
  }
}

/** As it is now. */
export const counts = () => ({ ...asked, held: { ...held } })
