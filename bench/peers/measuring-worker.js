// Becomes the engine's worker, and counts meanwhile: what it asks of WebGPU, bytes of GPU buffers that exist at once, and the WebAssembly
// memory. Each event `step` goes out with what there was when it came.

import { counts } from '/peers/counting.js'

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
const heap = () => memory?.buffer.byteLength ?? 0
const post = self.postMessage.bind(self)
self.postMessage = (message, ...more) => {
  if (message?.ready) empty = heap()
  post(message?.envelope?.type === 'step' ? { ...message, counted: { ...counts(), wasm: heap() } } : message, ...more)
}

self.addEventListener('message', (event) => {
  if (!event.data?.measure) return
  // The engine's worker takes commands alone.
  event.stopImmediatePropagation()
  void measure()
})

/** `collected`: bytes of the buffers that are left after a collection of garbage, where this browser lets a script ask for one. */
async function measure() {
  const memory = { ...counts().held, wasm: heap(), wasm_empty: empty }
  if (!self.gc) return post({ memory })
  // What is left behind is seen a task later, and may hold on to more.
  for (let i = 0; i < 3; i += 1) {
    self.gc()
    await new Promise((later) => setTimeout(later, 20))
  }
  post({ memory: { ...memory, collected: counts().held.buffers } })
}

await import('/worker.js')
