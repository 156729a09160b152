// The module for other pages without a browser: its worker is a script that speaks as worker.js does and knows no models.

import assert from 'node:assert/strict'

/** Every command that reached an engine since the last look. */
export const asked = []
export const looked = () => asked.splice(0).map(({ type, plugin, id, texts }) => [type, plugin ?? id ?? (texts ? null : undefined)].filter((one) => one !== undefined).join(' '))
/** All that were started. */
export const workers = []

/** As worker.js: commands one after another, and units of work between them. */
class ScriptedWorker extends EventTarget {
  #queue = []
  #busy = false
  #over = false
  #work = []
  #plugins = []
  #said = Promise.resolve()
  current = null

  constructor(url, { name }) {
    super()
    workers.push(this)
    this.name = name
    this.url = String(url)
    if (name === 'paddock') this.say(script.starts ? { ready: true, lock: script.holds ? 'alive' : null } : { crash: 'worker.js could not be loaded' })
  }

  get over() {
    return this.#over
  }

  /** Messages are on their way for a while, in their order. */
  say(data) {
    this.#said = this.#said.then(() => this.#turn(() => this.#over || this.dispatchEvent(new MessageEvent('message', { data }))))
  }

  emit(event, id = this.current) {
    this.say(structuredClone({ envelope: { run: '', ...event }, files: [], id }))
  }

  terminate() {
    this.#over = true
  }

  postMessage(message) {
    if (this.name === 'paddock-hub') return void this.hub(message)
    this.#queue.push(message)
    this.#pump()
  }

  #turn(then) {
    return new Promise((resolve) => setImmediate(() => resolve(then?.())))
  }

  async #pump() {
    if (this.#busy) return
    this.#busy = true
    while (!this.#over && (this.#queue.length || this.#work.length)) {
      const next = this.#queue.shift()
      if (next) {
        this.current = next.id
        asked.push(next.command)
        this.#handle(next.command, next.files)
        this.current = null
        this.say({ handled: next.id })
      } else this.#work.shift()()
      await this.#turn()
    }
    this.#busy = false
  }

  #fail = (message) => this.emit({ type: 'failed', message, advice: 'Do otherwise.' })
  #state = (state) => this.emit({ type: 'state', state })
  #begin(state, ...work) {
    this.#state(state)
    this.#work = [...work, () => this.#state('idle')]
  }

  #handle({ type, ...command }, files) {
    const names = files.map(({ name }) => name)
    const load = () => this.emit({ type: 'progress', phase: 'loading_weights', done: 1, total: 2 })
    if (type === 'inspect') return this.emit({ type: 'environment', devices: [{ id: 'cpu' }], chosen: 'cpu', notes: ['This browser has no WebGPU.'] })
    if (type === 'stop') {
      if (!this.#work.length) return this.#fail('There is no run to stop.')
      if (this.stopsNothing) return this.#fail('There is no run to stop.')
      this.#work = []
      return this.#state('idle')
    }
    if (type === 'remove_plugin') {
      if (!this.#plugins.some(({ id }) => id === command.id)) return this.#fail(`There is no plugin \`${command.id}\`.`)
      this.#plugins = this.#plugins.filter(({ id }) => id !== command.id)
      return this.emit({ type: 'plugins', plugins: this.#plugins })
    }
    if (this.#work.length) return this.#fail('Cannot do that while other work is under way.')
    if (type === 'open_model') return names.some((name) => /config\.json|gguf/.test(name)) ? this.emit({ type: 'model_opened', name: command.name, files: names }) : this.#fail(`config.json: none; there is ${names}`)
    if (type === 'open_adapter') return this.#begin('preparing', load)
    if (type === 'add_plugin') {
      if (names[0] === 'broken.zip') return this.#fail('broken.zip is no zip')
      const id = command.id ?? names[0].replace('.zip', '')
      this.stopsNothing = true
      return this.#begin('preparing', () => this.emit({ type: 'warning', message: 'other weights' }), load, () => {
        this.stopsNothing = false
        this.#plugins = [...this.#plugins.filter((one) => one.id !== id), { id, name: command.name ?? '', task: 'text-generation', labels: [], generates: true, before: null, after: null, uses: 0 }]
        this.emit({ type: 'plugins', plugins: this.#plugins })
      })
    }
    const plugin = this.#plugins.find(({ id }) => id === command.plugin)
    if (plugin) plugin.uses += command.texts.length
    else if (command.plugin !== null) return this.#fail(`There is no plugin \`${command.plugin}\`.`)
    const work = command.texts.flatMap((text, index) => {
      if (text === 'crash') return [() => this.say({ crash: 'panicked at x.rs' })]
      if (text === 'fail') return [() => (this.#state('failed'), this.#fail('The graphics card is gone.'), (this.#work = []))]
      const answer = (label, scores, more) => () => this.emit({ type: 'prediction', index, label, scores, ...more })
      if (text.startsWith('class')) return [answer('spam', [['ham', 0.25], ['spam', 0.75]])]
      const words = text.split(/(?= )/)
      return [...words.map((piece) => () => this.emit({ type: 'text_delta', index, text: piece })), answer(text, [], { finish_reason: 'stop', prompt_tokens: 3, completion_tokens: words.length })]
    })
    this.#begin('applying', ...work)
  }

  hub({ fetch, endpoint, token }) {
    this.asked = [fetch, endpoint, token].join(' ').trim()
    asked.push({ type: 'hub', id: `${fetch} ${endpoint}` })
    if (fetch === 'org/silent') return
    if (fetch === 'org/none') return this.say({ failed: { key: 'not_found', params: { repo: fetch } } })
    if (fetch === 'org/private') return this.say({ failed: { key: 'no_storage', params: {} } })
    this.say({ progress: { repo: fetch, file: 'model.safetensors', done: 1, total: 9 } })
    this.say({ opened: { name: fetch, files: [file('config.json')] }, models: [] })
  }
}

/** What the next worker does: whether it starts, whether it holds a lock, and what is to be called when that is free. */
export const script = { starts: true, holds: false, freed: () => {} }
const locks = { request: (_name, freed) => ((script.freed = freed), Promise.resolve()) }

/** What a page's callbacks threw. */
export const thrown = []
Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true })
Object.assign(globalThis, { Worker: ScriptedWorker, location: { origin: 'null', href: 'http://127.0.0.1:1/page/' }, reportError: (error) => thrown.push(error.message) })
export const { Paddock, PaddockError } = await import('../../www/paddock.js')

// Node's files have no path of a folder.
export const file = (name, content = '{}', path = '') => Object.defineProperty(new File([content], name), 'webkitRelativePath', { value: path })
export const BASE = [file('config.json'), file('model.safetensors')]
export const zip = (name) => file(`${name}.zip`)

/** An open one, and what was asked for it forgotten. */
export async function opened(t, options = {}) {
  const paddock = await Paddock.open({ base: BASE, ...options })
  t.after(() => paddock.close())
  looked()
  return paddock
}

export const refused = (message, advice = /./) => (error) => {
  assert.ok(error instanceof PaddockError && error instanceof Error, `${error?.stack ?? error}`)
  assert.match(error.message, message)
  assert.match(error.advice, advice)
  return true
}
export const aborted = (error) => error.name === 'AbortError'
