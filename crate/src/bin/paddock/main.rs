//! The command line: flags in, commands to the engine, events out as progress bars or JSON lines.

mod apply;
mod args;
mod driver;
mod env;
mod export;
mod files;
mod hub;
mod init;
mod lr_find;
mod machine;
mod model;
mod output;
mod plugins;
mod rows;
mod sampling;
mod serve;
mod settings;
mod starter;
mod storage;
mod sweep;
mod tokenize;
mod train;
mod trained;
mod validate;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use args::{Cli, Command, LogFormat};
use clap::{Parser, error::ErrorKind};
use output::Output;

fn main() -> ExitCode {
    machine::keep_memory();
    let args = args::normalise(std::env::args_os());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return bad_flags(&error, args::wants_json(&args)),
    };
    let mut output = Output::new(cli.log_format);
    // A panic is a fault of ours; a program that reads JSON lines still gets its last line.
    let result = catch_unwind(AssertUnwindSafe(|| match &cli.command {
        Command::Train(args) => train::run(args, &mut output),
        Command::Eval(args) => apply::eval(args, &mut output),
        Command::Predict(args) => apply::predict(args, &mut output),
        Command::Export(args) => export::run(args, &mut output),
        Command::Serve(args) => serve::run(args, &mut output),
        Command::Plugins(args) => plugins::run(args, &mut output),
        Command::Env => env::run(&mut output),
        Command::Init(args) => init::run(args, &mut output),
        Command::Tokenize(args) => tokenize::run(args, &mut output),
        Command::Validate(args) => validate::run(args, &mut output),
        Command::LrFind(args) => lr_find::run(args, &mut output),
        Command::Sweep(args) => sweep::run(args, &mut output),
        Command::Schema(args) => validate::schema(args, &mut output),
    }));
    let result = result.unwrap_or_else(|_| {
        Err(files::failure("internal error", "This is a fault in paddock: please report it with what stands above."))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.error(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Help and version are answers, the rest are errors: 2 as clap has it.
fn bad_flags(error: &clap::Error, json: bool) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if json && !asked {
        let text = error.to_string();
        let message: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = message.join(" ");
        let message = message.trim_start_matches("error: ");
        let advice = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).unwrap_or("See paddock --help.");
        Output::new(LogFormat::Json).error(&files::failure(message, advice));
    } else {
        // A closed terminal is no reason to panic.
        let _ = error.print();
    }
    ExitCode::from(if asked { 0 } else { 2 })
}
