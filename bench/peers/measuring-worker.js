// Becomes the engine's worker, and counts meanwhile: bytes of GPU buffers that exist at once, and the WebAssembly memory.

const STORAGE = 0x80
const held = { buffers: 0, storage: 0, most_buffers: 0, most_storage: 0 }
const sizes = new WeakMap()
// A buffer that nobody destroys is gone when nobody has it.
const gone = new FinalizationRegistry((size) => take(size, -1))

function take({ size, storage }, sign) {
  held.buffers += sign * size
  if (storage) held.storage += sign * size
  held.most_buffers = Math.max(held.most_buffers, held.buffers)
  held.most_storage = Math.max(held.most_storage, held.storage)
}

if (typeof GPUDevice === 'function') {
  const { createBuffer } = GPUDevice.prototype
  const { destroy } = GPUBuffer.prototype
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor)
    const entry = { size: descriptor.size, storage: (descriptor.usage & STORAGE) !== 0 }
    sizes.set(buffer, entry)
    gone.register(buffer, entry, entry)
    take(entry, 1)
    return buffer
  }
  GPUBuffer.prototype.destroy = function () {
    const entry = sizes.get(this)
    if (entry) {
      sizes.delete(this)
      gone.unregister(entry)
      take(entry, -1)
    }
    destroy.call(this)
  }
}

let memory = null
for (const name of ['instantiate', 'instantiateStreaming']) {
  const original = WebAssembly[name]
  WebAssembly[name] = async (...words) => {
    const made = await original.apply(WebAssembly, words)
    memory ??= (made.instance ?? made).exports?.memory ?? null
    return made
  }
}

// Before the model is there, the memory holds the program alone.
let empty = 0
const post = self.postMessage.bind(self)
self.postMessage = (message, ...more) => {
  if (message?.ready) empty = memory?.buffer.byteLength ?? 0
  post(message, ...more)
}

self.addEventListener('message', (event) => {
  if (!event.data?.measure) return
  // The engine's worker takes commands alone.
  event.stopImmediatePropagation()
  post({ memory: { ...held, wasm: memory?.buffer.byteLength ?? 0, wasm_empty: empty } })
})

await import('/worker.js')
