//! Bases that stay in their blocks, from the command.

use super::fixture::{Folder, Run};

/// Holds `base.gguf`, every matrix in another type of blocks, and texts.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("base.gguf", crate::golden::fixture("gguf/model.gguf"));
    let text: String = (0..60).map(|line| format!("we the people of the union, in year {line}\n")).collect();
    folder.write("speeches.txt", text);
    folder
}

fn train(folder: &Folder, base: &str, output: &str, more: &[&str]) -> Run {
    let args =
        ["train", "--model_name_or_path", base, "--device", "cpu", "--log-format", "json", "--output_dir", output];
    folder.run(&[&args[..], more].concat())
}

fn losses(run: &Run) -> Vec<f64> {
    run.result();
    run.events("step").iter().map(|step| step["loss"].as_f64().unwrap()).collect()
}

const GENERATE: [&str; 12] = [
    "--task",
    "text-generation",
    "--train_file",
    "speeches.txt",
    "--max_steps",
    "20",
    "--max_seq_length",
    "32",
    "--learning_rate",
    "0.003",
    "--batch_size",
    "2",
];

#[test]
fn a_language_model_learns_on_packed_blocks_as_on_the_numbers_in_them() {
    let folder = folder();
    let packed = train(&folder, "base.gguf", "packed", &GENERATE);
    let dense = train(&folder, "base.gguf", "dense", &[&GENERATE[..], &["--quantization", "none"]].concat());
    let (blocks, numbers) = (losses(&packed), losses(&dense));
    assert_eq!(blocks.len(), 20);
    assert!(blocks[19] < 0.9 * blocks[0], "{blocks:?}");
    for (packed, dense) in blocks.iter().zip(&numbers) {
        assert!((packed - dense).abs() < 1e-3 * dense, "{blocks:?} {numbers:?}");
    }
    let bytes = |run: &Run| run.events("plan")[0]["weight_bytes"].as_u64().unwrap();
    assert!(2 * bytes(&packed) < bytes(&dense), "{} {}", bytes(&packed), bytes(&dense));
    // What was trained answers on the blocks again.
    let ask = ["predict", "--adapter", "packed", "--text", "we the people", "--max_new_tokens", "4", "--device", "cpu"];
    let answer = folder.run(&[&ask[..], &["--log-format", "json"]].concat());
    answer.result();
    assert_eq!(answer.events("prediction").len(), 1);

    // A base that is quantised while it is read.
    let quantised = |output, more: &[&str]| losses(&train(&folder, "model", output, &[&GENERATE[..], more].concat()));
    let (rounded, exact) = (quantised("q8", &["--quantization", "q8_0"]), quantised("f32", &[]));
    assert_ne!(rounded, exact);
    assert!(rounded.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 0.02 * b), "{rounded:?} {exact:?}");
}

#[test]
fn a_packed_base_leaves_with_its_adapter_folded_in() {
    let folder = folder();
    let loss = |which: &[&str], file: &str, task: &str| {
        let args = ["eval", "--test_file", file, "--task", task, "--device", "cpu", "--log-format", "json"];
        folder.run(&[&args[..], which].concat()).result()["metrics"]["loss"].as_f64().unwrap()
    };
    let classify =
        ["--train_file", "reviews.csv", "--max_steps", "6", "--max_seq_length", "32", "--learning_rate", "0.01"];
    for (how, file, task) in
        [(&GENERATE[..], "speeches.txt", "text-generation"), (&classify[..], "reviews.csv", "text-classification")]
    {
        let (adapter, merged) = (format!("{task}-adapter"), format!("{task}-merged"));
        train(&folder, "base.gguf", &adapter, how).result();
        let export = ["export", "--adapter", &adapter, "--format", "merged", "--dtype", "f32", "--output_dir", &merged];
        folder.run(&[&export[..], &["--device", "cpu", "--log-format", "json"]].concat()).result();
        let with_adapter = loss(&["--adapter", &adapter], file, task);
        let alone = loss(&["--model_name_or_path", &merged], file, task);
        assert!((with_adapter - alone).abs() < 1e-4 * with_adapter, "{task}: {with_adapter} {alone}");
        // The blocks are numbers now.
        let size = |name: &str| folder.path(name).metadata().unwrap().len();
        assert!(size(&format!("{merged}/model.safetensors")) > 2 * size("base.gguf"));
    }
    let base = loss(&["--model_name_or_path", "base.gguf"], "speeches.txt", "text-generation");
    let trained = loss(&["--adapter", "text-generation-adapter"], "speeches.txt", "text-generation");
    assert!(trained < 0.95 * base, "{trained} {base}");
}
