// Becomes the engine's worker, and has the adapter say when each launch began and ended. Each event `step` goes out with the launches since the
// last one: their kernel's number, workgroups and nanoseconds; and with the kernels' sources. The browser has to be started for it (`timed` in
// lib/browser.mjs).

const FEATURES = ['timestamp-query', 'chromium-experimental-timestamp-query-inside-passes']
/** Of one step; later ones are not timed. */
const MOST = 2048
// GPUBufferUsage.QUERY_RESOLVE | COPY_SRC, and MAP_READ | COPY_DST.
const [RESOLVED, READ] = [0x204, 0x9]

const kernels = []
/** Of a shader module its source, of a pipeline its kernel's number. */
const known = new WeakMap()
let device = null
let queries = null
let launches = []
let current = null

const { requestDevice } = GPUAdapter.prototype
GPUAdapter.prototype.requestDevice = async function (descriptor = {}) {
  const requiredFeatures = [...(descriptor.requiredFeatures ?? []), ...FEATURES]
  device = await requestDevice.call(this, { ...descriptor, requiredFeatures })
  queries = device.createQuerySet({ type: 'timestamp', count: 2 * MOST })
  return device
}

/** Calls `then` with what a method gives and was given. */
function after(type, name, then) {
  const original = globalThis[type].prototype[name]
  globalThis[type].prototype[name] = function (...words) {
    const made = original.apply(this, words)
    then(made, ...words)
    return made
  }
}

after('GPUDevice', 'createShaderModule', (made, { code }) => known.set(made, code))
after('GPUDevice', 'createComputePipeline', (made, { compute }) => {
  const code = known.get(compute.module)
  if (!kernels.includes(code)) kernels.push(code)
  known.set(made, kernels.indexOf(code))
})
after('GPUComputePassEncoder', 'setPipeline', (_, pipeline) => {
  current = known.get(pipeline)
})
const dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups
GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...workgroups) {
  const at = launches.length
  if (at >= MOST) return dispatch.apply(this, workgroups)
  launches.push({ kernel: current, workgroups })
  this.writeTimestamp(queries, 2 * at)
  dispatch.apply(this, workgroups)
  this.writeTimestamp(queries, 2 * at + 1)
}

/** The launches so far, with their times, and begins anew. */
async function read() {
  const taken = launches
  launches = []
  if (taken.length === 0) return []
  const size = 16 * taken.length
  const [times, there] = [RESOLVED, READ].map((usage) => device.createBuffer({ size, usage }))
  const encoder = device.createCommandEncoder()
  encoder.resolveQuerySet(queries, 0, 2 * taken.length, times, 0)
  encoder.copyBufferToBuffer(times, 0, there, 0, size)
  device.queue.submit([encoder.finish()])
  await there.mapAsync(1)
  const stamps = new BigInt64Array(there.getMappedRange().slice(0))
  for (const buffer of [times, there]) buffer.destroy()
  return taken.map((launch, i) => ({ ...launch, ns: Number(stamps[2 * i + 1] - stamps[2 * i]) }))
}

// Messages keep their order though a step's waits for its times.
const post = self.postMessage.bind(self)
let last = Promise.resolve()
self.postMessage = (message, ...more) => {
  const timed = message?.envelope?.type === 'step' ? read() : null
  last = last.then(async () => post(timed ? { ...message, counted: { launches: await timed, kernels } } : message, ...more))
}
self.addEventListener('message', (event) => {
  if (!event.data?.measure) return
  // Asked for by whoever drives a worker that is not the engine's own; here it was told already.
  event.stopImmediatePropagation()
  self.postMessage({ memory: {} })
})

await import('/worker.js')
