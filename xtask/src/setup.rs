//! Finds what is missing and gets it, one line a step; says nothing when all is there.

use std::path::{Path, PathBuf};

use crate::shop::{self, Result, Shop};
use crate::toolchain;

/// Any later 0.21 does as well.
const TRUNK: &str = "0.21.14";
const OLDEST_NODE: [u32; 2] = [20, 19];

#[derive(Clone, Copy, PartialEq)]
pub enum Need {
    /// A compiler with the wasm target.
    Toolchain,
    /// Node.js and the packages of package.json.
    Npm,
    /// Trunk and wasm-bindgen.
    Trunk,
    Chromium,
}

impl Need {
    pub const ALL: [Need; 4] = [Need::Toolchain, Need::Npm, Need::Trunk, Need::Chromium];
    pub const PAGE: [Need; 3] = [Need::Toolchain, Need::Npm, Need::Trunk];
    pub const NATIVE: [Need; 2] = [Need::Toolchain, Need::Npm];
}

pub fn get(shop: &mut Shop, needs: &[Need]) -> Result<()> {
    for need in needs {
        match need {
            Need::Toolchain => toolchain::get(shop)?,
            Need::Npm => npm(shop)?,
            Need::Trunk => page_tools(shop)?,
            Need::Chromium => shop.chromium = Some(chromium()?),
        }
    }
    Ok(())
}

/// The named data sets, or those that the page and the tests need.
pub fn data(shop: &Shop, names: &[String]) -> Result<()> {
    let script = Path::new("xtask").join("data.mjs");
    shop::must(shop.command("node").arg(script).args(names))
}

fn npm(shop: &Shop) -> Result<()> {
    let wanted = format!("Node.js {}.{} or newer is needed, with npm", OLDEST_NODE[0], OLDEST_NODE[1]);
    let Some(version) = shop::output(shop::bare("node").arg("--version")) else {
        return Err(format!("{wanted}: install it (nodejs.org, or your system's packages), then try again"));
    };
    if numbers(&version) < OLDEST_NODE.to_vec() {
        return Err(format!("{wanted}; this is {version}"));
    }
    let lock = shop.root.join("package-lock.json");
    let stamp = shop.root.join("node_modules").join(".paddock-lock.json");
    let wanted = std::fs::read(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("setup: npm ci");
    shop::must(shop.command("npm").args(["ci", "--loglevel=error"]))?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Trunk and wasm-bindgen. Other builds may run beside it.
pub fn page_tools(shop: &Shop) -> Result<()> {
    let lock = shop.root.join("Cargo.lock");
    let text = std::fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    let bindgen = locked_version(&text, "wasm-bindgen").ok_or("Cargo.lock has no wasm-bindgen")?;
    let installed = version_of(shop, "wasm-bindgen");
    if installed.as_deref() != Some(bindgen) {
        // Its words must be those of the crate, to the last digit. Unlocked: its lock file lags behind its own crate.
        let instead = installed.map(|version| format!(" instead of {version}")).unwrap_or_default();
        println!("setup: cargo install wasm-bindgen-cli {bindgen}{instead} (a few minutes)");
        install(shop, &["wasm-bindgen-cli", "--version", bindgen])?;
    }
    let fits = |version: &str| numbers(version).starts_with(&[0, 21]);
    let installed = version_of(shop, "trunk");
    if !installed.as_deref().is_some_and(fits) {
        let instead = installed.map(|version| format!(" instead of {version}")).unwrap_or_default();
        println!("setup: cargo install trunk {TRUNK}{instead} (several minutes)");
        install(shop, &["trunk", "--version", TRUNK, "--locked"])?;
    }
    Ok(())
}

fn install(shop: &Shop, arguments: &[&str]) -> Result<()> {
    let mut cargo = shop.command("cargo");
    cargo.args(["install", "--quiet", "--force"]).args(arguments);
    // In a target folder of its own it waits for no other build. These programs need not be fast: linking them as a whole
    // would take one core longer than all the rest.
    cargo.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    shop::must(&mut cargo)
}

/// The last word of `program --version`.
fn version_of(shop: &Shop, program: &str) -> Option<String> {
    let words = shop::output(shop.command(program).arg("--version"))?;
    words.split_whitespace().last().map(str::to_string)
}

/// The version of a package in the text of a Cargo.lock.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    let value = |line: &'a str, key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
    lines.find(|line| value(line, "name") == Some(name))?;
    value(lines.next()?, "version")
}

/// "v20.19.2" → [20, 19, 2].
fn numbers(version: &str) -> Vec<u32> {
    version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// The browser that the tests drive: `CHROME`, or one that is installed, or Debian's.
fn chromium() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROME").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(format!("CHROME names {}, which is no file", path.display())),
        };
    }
    if let Some(found) = installed_chromium() {
        return Ok(found);
    }
    if shop::has_apt() {
        shop::apt_install(&["chromium"])?;
    }
    installed_chromium().ok_or_else(|| {
        "the browser tests need Chromium or Chrome: install one, or set CHROME to its program".to_string()
    })
}

fn installed_chromium() -> Option<PathBuf> {
    if let Some(found) =
        shop::on_path(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"])
    {
        return Some(found);
    }
    let mut places: Vec<PathBuf> = Vec::new();
    if cfg!(target_os = "macos") {
        for name in ["Google Chrome", "Chromium"] {
            places.push(format!("/Applications/{name}.app/Contents/MacOS/{name}").into());
        }
    }
    for folder in ["PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"] {
        if let Some(folder) = std::env::var_os(folder) {
            places.push(Path::new(&folder).join("Google").join("Chrome").join("Application").join("chrome.exe"));
        }
    }
    places.into_iter().find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_version_from_the_lock_file() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.80\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\ndependencies = [\n \"cfg-if\",\n]\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm-bindgen-futures"), Some("0.4.80"));
        assert_eq!(locked_version(lock, "wasm"), None);
        assert_eq!(locked_version("name = \"x\"", "x"), None);
    }

    #[test]
    fn the_lock_file_of_this_checkout_names_wasm_bindgen() {
        let lock = std::fs::read_to_string(Shop::open().root.join("Cargo.lock")).expect("Cargo.lock");
        assert!(locked_version(&lock, "wasm-bindgen").is_some_and(|version| numbers(version).len() == 3));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(numbers("v20.19.2"), [20, 19, 2]);
        assert_eq!(numbers("0.21.14-rc.1"), [0, 21, 14]);
        assert!(numbers("v20.9.0") < OLDEST_NODE.to_vec());
        assert!(numbers("v22.1.0") > OLDEST_NODE.to_vec());
        assert!(numbers("nonsense") < OLDEST_NODE.to_vec());
    }
}
