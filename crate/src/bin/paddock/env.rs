//! `paddock env`

use paddock::event::{Command, Environment, Event};
use serde_json::json;

use crate::{
    driver::Driver,
    files::{Result, failure},
    output::{Output, bytes},
};

pub fn run(output: &mut Output) -> Result<()> {
    let answers = Driver::new(output).send(Command::Inspect, Vec::new())?;
    let environment = answers.into_iter().find_map(|event| match event {
        Event::Environment(environment) => Some(environment),
        _ => None,
    });
    let Some(environment) = environment else {
        return Err(failure("the engine did not report", "This is a fault in paddock: please report it."));
    };
    output.result(json!({"chosen": environment.chosen}), &table(&environment))
}

fn table(environment: &Environment) -> String {
    let mut text = format!("paddock {} ({})\n", environment.version, environment.platform);
    for device in &environment.devices {
        let chosen = if device.id == environment.chosen { "*" } else { " " };
        let software = if device.software { ", software" } else { "" };
        text += &format!("\n{chosen} {:<4} {} ({}{software})\n", device.id, device.name, device.api);
        if !device.features.is_empty() {
            text += &format!("       features  {}\n", device.features.join(", "));
        }
        for (name, &value) in &device.limits {
            // WebGPU counts sizes in bytes; the others are plain numbers.
            let sized = name.ends_with("Size") || name.ends_with("Bytes") || name.ends_with("bytes");
            let value = if sized && value >= 1024 { bytes(value) } else { value.to_string() };
            text += &format!("       {name}  {value}\n");
        }
    }
    text += &format!("\n* {}: {}", environment.chosen, environment.reason);
    if let Some(free) = environment.storage_free {
        text += &format!("\nstorage free: {}", bytes(free));
    }
    for note in &environment.notes {
        text += &format!("\nnote: {note}");
    }
    text
}
