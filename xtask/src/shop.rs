//! The checkout and how programs are started in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Errors are for people: one message that says what failed and what to do.
pub type Result<T> = std::result::Result<T, String>;

pub struct Shop {
    /// The checkout's top folder.
    pub root: PathBuf,
    /// The rustup toolchain that every cargo and trunk gets; `None` leaves the active one.
    pub toolchain: Option<String>,
    pub chromium: Option<PathBuf>,
}

impl Shop {
    pub fn open() -> Self {
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = Path::new(&manifest).parent().map(Path::to_path_buf).unwrap_or_default();
        Shop { root, toolchain: None, chromium: None }
    }

    /// `program` in the checkout, with the tools that setup got on PATH.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bare(program);
        command.current_dir(&self.root);
        let mut path = vec![self.root.join("node_modules").join(".bin")];
        path.extend(cargo_bin());
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        if let Some(toolchain) = &self.toolchain {
            command.env("RUSTUP_TOOLCHAIN", toolchain);
        }
        if let Some(chromium) = &self.chromium {
            command.env("CHROME", chromium);
        }
        command
    }

    /// Trunk, told to leave the network alone: setup has put its tools in place.
    pub fn trunk(&self, what: &str) -> Command {
        let mut trunk = self.command("trunk");
        trunk.arg(what).env("TRUNK_SKIP_VERSION_CHECK", "true");
        // Trunk wants true or false here, others say NO_COLOR=1.
        trunk.env_remove("NO_COLOR");
        trunk
    }

    /// Builds the page into dist; `published` as a server should have it, which takes some minutes more (xtask/pack.mjs).
    pub fn page(&self, published: bool) -> Command {
        let mut trunk = self.trunk("build");
        trunk.arg("--release").env("PADDOCK_PUBLISH", if published { "1" } else { "0" });
        trunk
    }
}

/// `program` without what `cargo run` added to the environment: those variables would
/// make the inner cargo rebuild crates whose build scripts watch them.
pub fn bare(program: &str) -> Command {
    let npm = cfg!(windows) && program == "npm";
    let mut command = Command::new(if npm { "npm.cmd" } else { program });
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name == "CARGO"
            || ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start))
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Where `cargo install` puts programs, whether or not PATH has it.
fn cargo_bin() -> Option<PathBuf> {
    if let Some(root) = std::env::var_os("CARGO_INSTALL_ROOT").or_else(|| std::env::var_os("CARGO_HOME")) {
        return Some(Path::new(&root).join("bin"));
    }
    std::env::home_dir().map(|home| home.join(".cargo").join("bin"))
}

/// The program's words on standard output; `None` where it is missing or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Runs with its output shown; `false` where it fails, an error where it cannot start.
pub fn passes(command: &mut Command) -> Result<bool> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    Ok(status.success())
}

/// Runs with its output shown; an error where it fails.
pub fn must(command: &mut Command) -> Result<()> {
    match passes(command)? {
        true => Ok(()),
        false => Err(format!("this failed: {}", line(command))),
    }
}

pub fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("{} cannot be started: {error}", command.get_program().to_string_lossy())
}

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The first of `names` that PATH has.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        folders.iter().map(|folder| folder.join(&name)).find(|file| file.is_file())
    })
}

/// A command with the rights of root: as it is for root, else through sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if output(Command::new("id").arg("-u")).as_deref() == Some("0") {
        return Ok(bare(program));
    }
    if on_path(&["sudo"]).is_none() {
        return Err(format!("{program} needs root here and there is no sudo: run cargo xtask setup as root once"));
    }
    let mut command = bare("sudo");
    command.arg(program);
    Ok(command)
}

/// Debian's packages, installed without questions.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    println!("setup: apt-get install {}", packages.join(" "));
    let apt = |what: &[&str]| -> Result<Command> {
        // sudo passes no variables on, env sets them behind it.
        let mut command = as_root("env")?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]);
        command.args(what);
        Ok(command)
    };
    // On a new machine the lists are absent. Where they cannot be had, installing says what is missing.
    passes(&mut apt(&["update"])?)?;
    must(apt(&["install", "-y", "--no-install-recommends"])?.args(packages))
}

pub fn has_apt() -> bool {
    cfg!(target_os = "linux") && on_path(&["apt-get"]).is_some()
}
