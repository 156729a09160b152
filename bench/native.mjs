// Training speed of the command: Paddock and PyTorch + transformers + PEFT, alternating: `cargo xtask bench native`.
//
//   node bench/native.mjs [--device cpu|gpu] [--alternations 5] [--steps 6] [--threads N] [--precision f32|half]
//                         [--model FOLDER] [--python PROGRAM]
//
// LoRA rank 8 on all linears of SmolLM2-135M, 4 × 128 tokens, AdamW, clipping at 1, a constant rate, from the same A and B, the same rows at
// every step, the same number of threads. The losses of every step are compared. PADDOCK_BIN and PADDOCK_PYTHON name the two programs.

import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Usage, main, options } from './lib/options.mjs'
import { lines } from './lib/program.mjs'
import { ROOT, WORK, apart, firstStep, machine, ratio, save, speed, summary } from './lib/results.mjs'

const TOKENS = 4 * 128
const ALIKE = { f32: 1e-3, half: 5e-2 }
const SCRIPT = join(ROOT, 'bench', 'native.py')

const steps = (found) => found.filter(({ event }) => event === 'step')

async function ours({ model, folder, count, device, threads, precision }) {
  const found = await lines(
    process.env.PADDOCK_BIN,
    [
      ...['train', '--model_name_or_path', model, '--adapter', join(folder, 'adapter'), '--task', 'text-generation'],
      ...['--train_file', join(folder, 'train.jsonl'), '--validation_file', join(folder, 'held-out.jsonl')],
      ...['--output_dir', join(folder, 'out'), '--overwrite_output_dir', '--max_steps', `${count}`, '--batch_size', '4', '--max_seq_length', '128'],
      ...['--learning_rate', '1e-3', '--lr_scheduler_type', 'constant', '--save_steps', '0', '--quantization', 'none'],
      ...['--device', device, '--mixed_precision', precision === 'half' ? 'fp16' : 'no', '--log_format', 'json'],
    ],
    { RAYON_NUM_THREADS: `${threads}` },
  )
  const taken = steps(found)
  const devices = found.find(({ event }) => event === 'environment')?.devices ?? []
  const plan = found.find(({ event }) => event === 'plan')
  return {
    losses: taken.map(({ loss }) => loss),
    step_seconds: taken.map(({ tokens_per_second: rate }) => TOKENS / rate),
    first_step_seconds: taken[0]?.at,
    device: devices.find(({ id }) => id === device),
    planned_bytes: plan && plan.weight_bytes + plan.training_bytes + plan.activation_bytes,
  }
}

async function theirs(python, { model, folder, count, device, threads, precision }) {
  const words = [SCRIPT, 'train', model, folder, '--steps', `${count}`, '--threads', `${threads}`, '--device', device === 'gpu' ? 'cuda' : 'cpu', '--precision', precision]
  const found = await lines(python, words, { OMP_NUM_THREADS: `${threads}`, MKL_NUM_THREADS: `${threads}`, OPENBLAS_NUM_THREADS: `${threads}` })
  const taken = steps(found)
  return {
    losses: taken.map(({ loss }) => loss),
    step_seconds: taken.map(({ seconds }) => seconds),
    first_step_seconds: taken[0]?.at,
    versions: found.find(({ event }) => event === 'versions'),
    peak_bytes: found.find(({ event }) => event === 'memory')?.peak_bytes,
  }
}

const round = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : '–')

await main(async () => {
  const { device, alternations, steps: count, threads, precision, model, python } = options(process.argv.slice(2), {
    device: { one: ['cpu', 'gpu'] },
    alternations: { number: 5 },
    steps: { number: 6, least: 3 },
    threads: { number: availableParallelism() },
    precision: { one: ['f32', 'half'] },
    model: { text: join(ROOT, '.paddock', 'models', 'SmolLM2-135M-Instruct') },
    python: { text: process.env.PADDOCK_PYTHON ?? '' },
  })
  if (!process.env.PADDOCK_BIN || !existsSync(process.env.PADDOCK_BIN)) throw new Usage('PADDOCK_BIN does not name the paddock program: cargo xtask bench native builds it and says so')
  if (!python) throw new Usage('PADDOCK_PYTHON names no Python: cargo xtask bench native sets one up')
  if (precision === 'half' && device === 'cpu') throw new Usage('--precision half wants --device gpu: our CPU computes in 32 bits')
  const folder = join(WORK, 'native')
  console.log('preparing the rows and the adapter')
  await lines(python, [SCRIPT, 'prepare', model, folder])
  const run = { model, folder, count, device, threads, precision }
  const sides = { ours: () => ours(run), peft: () => theirs(python, run) }
  const runs = []
  for (let turn = 0; turn < alternations; turn += 1) {
    const order = turn % 2 ? ['peft', 'ours'] : ['ours', 'peft']
    const pair = {}
    for (const side of order) {
      pair[side] = await sides[side]()
      const { device: found, versions } = pair[side]
      console.log(`  ${turn + 1}/${alternations} ${side}: ${round(speed(pair[side]) * TOKENS, 0)} tokens/s, first step ${round(firstStep(pair[side]))} s after the start (${found?.name ?? versions?.device ?? '?'})`)
    }
    runs.push(pair)
  }
  const [{ ours: mine, peft }] = runs
  const losses_apart = Math.max(...runs.map((pair) => apart(pair.ours.losses, pair.peft.losses)))
  const over = { ratio: ratio(runs, 'ours', 'peft', speed), first_step_ratio: ratio(runs, 'peft', 'ours', firstStep), losses_apart, same_work: losses_apart < ALIKE[precision] }
  const entry = {
    model: 'SmolLM2-135M',
    about: 'LoRA rank 8 on all linears, 4 × 128 tokens',
    device,
    precision,
    threads,
    tokens_per_step: TOKENS,
    our_device: mine.device,
    versions: peft.versions,
    planned_bytes: mine.planned_bytes,
    peer_peak_bytes: peft.peak_bytes,
    sides: summary(runs, TOKENS),
    over_peer: over,
    runs: runs.map((pair) => Object.fromEntries(Object.entries(pair).map(([side, { losses, step_seconds, first_step_seconds }]) => [side, { losses, step_seconds, first_step_seconds }]))),
  }
  const name = device === 'cpu' ? 'native' : `native-gpu${precision === 'half' ? '-half' : ''}`
  save(name, { machine: machine({ adapter: device === 'gpu' ? mine.device : undefined }), peer: `PyTorch ${peft.versions?.torch}, PEFT ${peft.versions?.peft}`, alternations, results: [entry] })
  console.log(`${round(over.ratio)} × PyTorch + PEFT on ${device === 'gpu' ? peft.versions?.device : `${threads} threads`}, losses ${losses_apart.toExponential(1)} apart`)
  if (!over.same_work) console.error(`the losses differ by more than ${ALIKE[precision]}: this is not the same work`)
  return over.same_work
})
