//! The command killed at random moments: the run comes back and ends as it would have.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixture::{Folder, bytes, train_args};

const SETTINGS: [&str; 14] = [
    "--max_steps",
    "60",
    "--learning_rate",
    "0.005",
    "--validation_split",
    "0.25",
    "--batch_size",
    "4",
    "--save_steps",
    "2",
    "--lora_dropout",
    "0.1",
    "--output_dir",
    "out",
];

/// Kills in all. `PADDOCK_TEST_KILLS` asks for another number.
fn kills() -> usize {
    std::env::var("PADDOCK_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

#[test]
fn killed_at_random_moments_a_run_still_ends_the_same() {
    let whole = Folder::new();
    let begun = Instant::now();
    whole.train("reviews.csv", &SETTINGS).result();
    // However fast the machine is, the first one comes before the run's end.
    let latest = (begun.elapsed().as_millis() as u64 / 2).clamp(40, 400);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut killed, mut runs) = (0, 0);
    while killed < kills() {
        let times = killed_run(&whole, latest, kills() - killed, &mut rng);
        assert!(times > 0, "a run that ended before it could be killed");
        killed += times;
        runs += 1;
    }
    println!("{killed} kills of {runs} runs");
}

/// One run, killed and taken up at most so many times and then left to its end; how often it was killed.
fn killed_run(whole: &Folder, latest: u64, most: usize, rng: &mut ChaCha8Rng) -> usize {
    let folder = Folder::new();
    let mut killed = 0;
    let mut resume: &[&str] = &[];
    let mut furthest = 0;
    while killed < most {
        let args = [&train_args("reviews.csv"), &SETTINGS[..], resume].concat();
        let mut child = folder.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(rng.random_range(20..latest)));
        // Once it has ended there is nothing left to kill.
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        resume = &["--resume_from_checkpoint"];
        let step = last_step(&folder);
        assert!(step >= furthest, "checkpoints of steps {furthest}, then {step}: lost");
        furthest = step;
    }
    let result =
        folder.run(&[&train_args("reviews.csv"), &SETTINGS[..], &["--resume_from_checkpoint"]].concat()).result();
    assert_eq!((&result["steps"], &result["completed"]), (&60.into(), &true.into()));
    let adapter = |folder: &Folder| bytes(&folder.path("out/adapter_model.safetensors"));
    assert!(adapter(&folder) == adapter(whole), "other weights after {killed} kills");
    assert_eq!(folder.json("out/metrics.json")["after"], whole.json("out/metrics.json")["after"]);
    assert!(folder.names("out").iter().all(|name| !name.ends_with(".part")), "{:?}", folder.names("out"));
    killed
}

/// Of the newest checkpoint that is whole.
fn last_step(folder: &Folder) -> u64 {
    let names = fs::read_dir(folder.path("out")).into_iter().flatten().flatten();
    let steps = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("checkpoint-")?.strip_suffix(".sha256")?.parse().ok()
    });
    steps.max().unwrap_or(0)
}

#[test]
fn an_output_folder_with_a_cut_run_says_how_to_go_on() {
    let folder = Folder::new();
    folder.train("reviews.csv", &SETTINGS).result();
    let error = folder.train("reviews.csv", &SETTINGS).error();
    assert!(error.contains("--resume_from_checkpoint"), "{error}");
    // A run that had ended gives its result again, without a step.
    let again = folder.train("reviews.csv", &[&SETTINGS[..], &["--resume_from_checkpoint"]].concat());
    assert!(again.events("step").is_empty() && again.events("resumed")[0]["step"] == 60);
    assert_eq!(again.result()["metrics"], folder.json("out/metrics.json")["after"]);
    // Another run in its place leaves nothing of it.
    let other = [
        "--max_steps",
        "4",
        "--learning_rate",
        "0.005",
        "--save_steps",
        "1",
        "--output_dir",
        "out",
        "--overwrite_output_dir",
    ];
    folder.train("reviews.csv", &other).result();
    let names = folder.names("out");
    let checkpoints: Vec<_> = names.iter().filter(|name| name.ends_with(".sha256")).collect();
    assert_eq!(checkpoints, ["checkpoint-3.sha256", "checkpoint-4.sha256"], "{names:?}");
}
