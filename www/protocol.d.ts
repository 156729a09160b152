// Generated from crate/src/event.rs and crate/src/config/keys.rs by tests/suite/protocol.rs. Do not edit.

export type Command = { "type": "inspect" } | { "type": "open_model",
name: string, } | { "type": "open_data" } | { "type": "open_config" } | { "type": "check", config: RawConfig, } | { "type": "start", config: RawConfig,
resume?: boolean,
smaller?: number, } | { "type": "lr_find", config: RawConfig, min_lr: number, max_lr: number, num_training_steps: number, } | { "type": "sweep_next", sweep: Sweep, results: Array<TrialResult>, } | { "type": "open_adapter", config: RawConfig, } | { "type": "add_plugin", config: RawConfig,
id?: string | null, name?: string | null, } | { "type": "keep_plugin", name: string, } | { "type": "use_plugin", id: string, } | { "type": "remove_plugin", id: string, } | { "type": "list_plugins" } | { "type": "evaluate",
columns?: { [key in string]: string }, } | { "type": "pause" } | { "type": "resume" } | { "type": "stop" } | { "type": "predict", texts: Array<string>,
fields?: Array<{ [key in string]: string }>,
messages?: Array<Array<Message>>,
plugin?: string | null,
sampling?: Sampling,
max_new_tokens?: number | null,
apply_chat_template?: boolean | null,
join?: boolean, } | { "type": "cancel", index: number, } | { "type": "export", format: ExportFormat,
dtype?: ExportDType,
zip: boolean,
name?: string | null, };

export type ExportFormat = "adapter" | "merged" | "gguf" | "gguf_lora";

export type ExportDType = "f32" | "f16" | "bf16" | "q8_0";

export type Envelope = { run: string, } & ({ "type": "environment" } & Environment | { "type": "model_opened" } & ModelSummary | { "type": "data_opened" } & DataSummary | { "type": "config", config: RawConfig, } | { "type": "plan" } & Plan | { "type": "adapter_opened" } & AdapterSummary | { "type": "plugins", plugins: Array<PluginInfo>, } | { "type": "state", state: State, } | { "type": "progress", phase: Phase, done: number,
total: number, } | { "type": "calibrated" } & Calibration | { "type": "step" } & Step | { "type": "sweep_step" } & SweepStep | { "type": "lr_curve" } & LrCurve | { "type": "evaluation" } & Evaluation | { "type": "checkpoint" } & CheckpointInfo | { "type": "resumed" } & Resumed | { "type": "recovery" } & Recovery | { "type": "prediction" } & Prediction | { "type": "text_delta" } & TextDelta | { "type": "export_started", format: ExportFormat, files: Array<FileInfo>, } | { "type": "export_chunk", file: string, offset: number, bytes: number, } | { "type": "exported", format: ExportFormat, files: Array<FileInfo>, } | { "type": "warning", message: string, } | { "type": "finished" } & Summary | { "type": "failed" } & Failure);

export type Event = { "type": "environment" } & Environment | { "type": "model_opened" } & ModelSummary | { "type": "data_opened" } & DataSummary | { "type": "config", config: RawConfig, } | { "type": "plan" } & Plan | { "type": "adapter_opened" } & AdapterSummary | { "type": "plugins", plugins: Array<PluginInfo>, } | { "type": "state", state: State, } | { "type": "progress", phase: Phase, done: number,
total: number, } | { "type": "calibrated" } & Calibration | { "type": "step" } & Step | { "type": "sweep_step" } & SweepStep | { "type": "lr_curve" } & LrCurve | { "type": "evaluation" } & Evaluation | { "type": "checkpoint" } & CheckpointInfo | { "type": "resumed" } & Resumed | { "type": "recovery" } & Recovery | { "type": "prediction" } & Prediction | { "type": "text_delta" } & TextDelta | { "type": "export_started", format: ExportFormat, files: Array<FileInfo>, } | { "type": "export_chunk", file: string, offset: number, bytes: number, } | { "type": "exported", format: ExportFormat, files: Array<FileInfo>, } | { "type": "warning", message: string, } | { "type": "finished" } & Summary | { "type": "failed" } & Failure;

export type State = "idle" | "preparing" | "training" | "paused" | "evaluating" | "recovering" | "succeeded" | "failed" | "applying";

export type Phase = "loading_weights" | "tokenizing" | "warming_up" | "evaluating" | "exporting" | "generating" | "saving";

export type Environment = { version: string,
platform: string, devices: Array<DeviceInfo>,
chosen: string,
reason: string,
storage_free: number | null,
notes: Array<string>,
scenarios: Array<ScenarioInfo>, };

export type DeviceInfo = {
id: string, name: string,
api: string,
software: boolean, features: Array<string>,
limits: Record<string, number>, };

export type ScenarioInfo = {
id: string, name: string, about: string, shapes: Array<ShapeInfo>,
generates: boolean,
metrics: Array<MetricInfo>,
number_metrics: Array<MetricInfo>, };

export type ShapeInfo = { id: string, roles: Array<RoleInfo>, };

export type RoleInfo = {
id: string, required: boolean, };

export type MetricInfo = {
id: string, greater_is_better: boolean,
share: boolean,
default: boolean, };

export type PluginInfo = { id: string, name: string,
task: string,
labels: Array<string>,
generates: boolean,
before: Metrics | null, after: Metrics | null,
uses: number, };

export type ModelSummary = { name: string, architecture: string, parameters: number, hidden_size: number, layers: number, vocab_size: number, max_position_embeddings: number,
dtype: string, file_bytes: number,
device_bytes: number, };

export type DataSummary = { name: string,
format: string, encoding: string, columns: Array<Column>, rows: number,
preview: Array<Array<string>>,
text_column: string | null, label_column: string | null,
fits: Array<Fit>,
held_out: boolean, warnings: Array<string>, };

export type Fit = {
task: string, shape: string,
columns: { [key in string]: string }, };

export type AdapterSummary = {
task: string,
labels: Array<string>,
r: number | null, };

export type Column = { name: string,
values: Array<[string, number]>,
numeric: boolean, };

export type Plan = { device: string,
precision: Precision, labels: Array<string>,
shape: string, columns: { [key in string]: string },
examples: Array<Preview>, train_rows: number, validation_rows: number,
skipped_rows: number, total_steps: number, trainable_parameters: number, total_parameters: number,
weight_bytes: number, training_bytes: number, activation_bytes: number,
metrics: Array<MetricInfo>,
config: RawConfig, config_yaml: string, warnings: Array<string>, };

export type Precision = "f32" | "f16";

export type Preview = { row: number,
given: string,
learnt: string, };

export type Calibration = {
adapter: string,
choices: ProductTiles, measured: Array<MeasuredTile>, seconds: number, };

export type MeasuredTile = { class: ProductClass, tile: ProductTile,
gflops: number, };

export type ProductTiles = { medium: ProductTile, small: ProductTile, large: ProductTile, thin: ProductTile, least: ProductTile, };

export type ProductClass = "medium" | "small" | "large" | "thin" | "least";

export type ProductTile = "registers" | "shared128" | "shared64_wide" | "shared64" | "shared32" | "sliced";

export type Step = { step: number, total_steps: number,
epoch: number, loss: number,
accuracy: number,
grad_norm: number, learning_rate: number, tokens_per_second: number, seconds: number, };

export type LrCurve = {
points: Array<LrPoint>,
suggestion: number | null,
diverged: boolean, };

export type LrPoint = { learning_rate: number, loss: number,
smoothed: number, };

export type When = "before" | "during" | "after";

export type Evaluation = { when: When, step: number, rows: number, metrics: Metrics,
confusion: number[][], labels: Array<string>,
samples: Array<Sample>,
answered: number,
intervals: { [key in string]: [number, number] },
changes: { [key in string]: Change },
calibration: Array<Bin>,
classes: Array<ClassScore>, };

export type Metrics = {
loss: number,
accuracy?: number | null,
macro_f1?: number | null,
micro_f1?: number | null,
balanced_accuracy?: number | null,
calibration_error?: number | null,
majority?: number | null,
perplexity?: number | null,
bits_per_byte?: number | null,
exact_match?: number | null,
f1?: number | null,
rouge1?: number | null,
rouge2?: number | null,
rougeL?: number | null,
bleu?: number | null,
entity_f1?: number | null,
parsed?: number | null,
mse?: number | null,
mae?: number | null,
r2?: number | null,
pearson?: number | null, };

export type Change = { value: number,
interval: [number, number] | null, };

export type Bin = { rows: number, confidence: number, accuracy: number, };

export type ClassScore = { precision: number, recall: number, f1: number, rows: number, };

export type Sample = { text: string,
fields: { [key in string]: string }, expected: string, predicted: string, confidence: number, };

export type Prediction = {
index: number,
label: string,
scores: Array<[string, number]>,
finish_reason?: Finish | null, prompt_tokens?: number | null, completion_tokens?: number | null, };

export type Finish = "stop" | "length" | "abort";

export type TextDelta = {
index: number, text: string, };

export type Sampling = {
max_new_tokens?: number,
temperature?: number,
top_k?: number,
top_p?: number,
min_p?: number,
repetition_penalty?: number, seed?: number,
stop?: Array<string>, };

export type FileInfo = { name: string, bytes: number, };

export type Summary = {
completed: boolean, ended: Ended, steps: number, seconds: number, before: Metrics | null, after: Metrics | null, rows: number,
best_step: number | null, recoveries: Array<Recovery>,
verdict: Verdict | null,
hints: Array<Hint>, };

export type Verdict = { met: boolean, metric: string,
gain: number,
interval: [number, number] | null, message: string, };

export type Hint = { cause: HintCause, message: string,
changes: { [key in string]: string }, };

export type HintCause = "few_rows" | "rare_class" | "label_noise" | "cut_rows" | "over_fitting" | "under_fitting" | "learning_rate_too_high" | "learning_rate_too_low" | "not_enough_steps" | "few_held_out_rows";

export type Ended = "finished" | "stopped" | "early_stopping" | "time_budget";

export type CheckpointInfo = { step: number, file: string, bytes: number,
best: boolean, };

export type Resumed = { step: number, file: string,
damaged: Array<string>, };

export type Recovery = { step: number, cause: Cause,
message: string, action: Action,
back_to: number | null,
attempt: number, max_attempts: number,
learning_rate_factor: number, split: number, };

export type Cause = "not_finite" | "diverging" | "out_of_memory" | "device_lost" | "storage_full";

export type Action = "skip_batch" | "lower_learning_rate" | "smaller_micro_batch" | "new_device" | "free_storage";

export type Failure = {
message: string,
advice: string,
kind?: FailureKind | null, };

export type FailureKind = "too_long" | "device_lost" | "out_of_memory";

export type Message = {
role: string, content: string, };

export type RawConfig = {
task?: string | null,
device?: string | null,
kernels?: string | null, model: ModelSection, data: DataSection, training: TrainingSection, evaluation: EvaluationSection, lora: LoraSection, recovery: RecoverySection, };

export type ModelSection = {
type?: string | null,
name_or_path?: string | null,
num_labels?: number | null,
max_seq_length?: number | null,
quantization?: string | null, };

export type DataSection = {
train_file?: string | null,
validation_file?: string | null,
validation_split?: number | null,
shape?: string | null,
text_column?: string | null,
label_column?: string | null,
prompt_column?: string | null,
input_column?: string | null,
completion_column?: string | null,
messages_column?: string | null,
system_column?: string | null,
question_column?: string | null,
context_column?: string | null,
answer_column?: string | null,
summary_column?: string | null,
apply_chat_template?: boolean | null,
max_train_samples?: number | null,
max_eval_samples?: number | null, };

export type TrainingSection = {
method?: string | null,
batch_size?: number | null,
gradient_accumulation_steps?: number | null,
packing?: boolean | null,
gradient_checkpointing?: boolean | null,
mixed_precision?: string | null,
learning_rate?: number | null,
num_epochs?: number | null,
max_steps?: number | null,
weight_decay?: number | null,
adam_beta1?: number | null,
adam_beta2?: number | null,
adam_epsilon?: number | null,
lr_scheduler_type?: string | null,
warmup_ratio?: number | null,
warmup_steps?: number | null,
max_grad_norm?: number | null,
logging_steps?: number | null,
eval_steps?: number | null,
save_steps?: number | null,
save_total_limit?: number | null,
metric_for_best_model?: string | null,
load_best_model_at_end?: boolean | null,
early_stopping_patience?: number | null,
early_stopping_threshold?: number | null,
max_minutes?: number | null,
report_to?: string | null,
seed?: number | null, };

export type EvaluationSection = {
max_generated_samples?: number | null,
max_new_tokens?: number | null,
success_metric?: string | null,
min_gain?: number | null, };

export type LoraSection = {
r?: number | null,
lora_alpha?: number | null,
lora_dropout?: number | null,
target_modules?: Array<string> | null, };

export type RecoverySection = {
max_retries?: number | null,
max_skipped_batches?: number | null,
learning_rate_factor?: number | null,
divergence_threshold?: number | null,
divergence_patience?: number | null, };

export type Sweep = { base: RawConfig, search: SearchSection,
space: { [key in string]: Values }, };

export type SearchSection = {
strategy?: string | null,
trials?: number | null,
seed?: number | null,
metric?: string | null,
direction?: string | null,
max_steps?: number | null,
min_steps?: number | null,
eta?: number | null, };

export type Values = { "list": Array<unknown> } | { "range": Range };

export type Range = { scale: Scale, least: number, most: number, };

export type Scale = "uniform" | "log_uniform";

export type Trial = {
trial: number,
rung: number,
settings: Record<string, unknown>,
max_steps: number | null, };

export type TrialResult = { metrics: Metrics | null,
rows: number, steps: number, seconds: number, error: string | null,
trial: number,
rung: number,
settings: Record<string, unknown>,
max_steps: number | null, };

export type SweepStep = {
trial: Trial | null, config: RawConfig | null,
settings: number, runs: number,
report: Report, };

export type Report = { metric: string,
rows: Array<Row>,
best: number | null, verdict: string, };

export type Row = { trial: number, rung: number,
value: number | null, loss: number | null, steps: number, seconds: number,
what: string, };

export type Fit = {
task: string, shape: string,
columns: { [key in string]: string }, };

export type Preview = { row: number,
given: string,
learnt: string, };

export type ScenarioInfo = {
id: string, name: string, about: string, shapes: Array<ShapeInfo>,
generates: boolean,
metrics: Array<MetricInfo>,
number_metrics: Array<MetricInfo>, };

export type ShapeInfo = { id: string, roles: Array<RoleInfo>, };

export type RoleInfo = {
id: string, required: boolean, };

export type PluginInfo = { id: string, name: string,
task: string,
labels: Array<string>,
generates: boolean,
before: Metrics | null, after: Metrics | null,
uses: number, };

export type Change = { value: number,
interval: [number, number] | null, };

export type Bin = { rows: number, confidence: number, accuracy: number, };

export type ClassScore = { precision: number, recall: number, f1: number, rows: number, };

export type Verdict = { met: boolean, metric: string,
gain: number,
interval: [number, number] | null, message: string, };

export type Hint = { cause: HintCause, message: string,
changes: { [key in string]: string }, };

export type HintCause = "few_rows" | "rare_class" | "label_noise" | "cut_rows" | "over_fitting" | "under_fitting" | "learning_rate_too_high" | "learning_rate_too_low" | "not_enough_steps" | "few_held_out_rows";

export type EvaluationSection = {
max_generated_samples?: number | null,
max_new_tokens?: number | null,
success_metric?: string | null,
min_gain?: number | null, };
