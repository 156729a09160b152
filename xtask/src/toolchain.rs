//! A Rust compiler that can build for wasm32-unknown-unknown, one for both targets so that host crates build once.
//!
//! The active toolchain serves where it has the target or rustup can add it. Where rustup's server is out of reach,
//! Debian's own compiler does, with std built once from Debian's source and linked into rustup as `debian`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shop::{self, Result, Shop};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN: &str = "debian";
const PACKAGES: [&str; 8] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "libstd-rust-web-dev",
    "rust-web-llvm",
    "lld-19",
    "rust-web-clippy",
    "rustfmt-web",
];

/// Finds or gets the toolchain and sets `shop.toolchain`.
pub fn get(shop: &mut Shop) -> Result<()> {
    if links_wasm(None) {
        return Ok(());
    }
    let rustup = shop::on_path(&["rustup"]).is_some();
    if rustup && has_toolchain(DEBIAN) && links_wasm(Some(DEBIAN)) {
        return choose_debian(shop);
    }
    if rustup {
        println!("setup: rustup target add {TARGET}");
        if shop::passes(shop::bare("rustup").args(["target", "add", TARGET]))? && links_wasm(None) {
            return Ok(());
        }
    }
    if !(rustup && shop::has_apt()) {
        return Err(format!(
            "this Rust cannot build for {TARGET}: install Rust through rustup and run \"rustup target add {TARGET}\""
        ));
    }
    println!("setup: rustup could not add {TARGET}, so Debian's Rust is set up for it");
    if !debian_is_installed() {
        shop::apt_install(&PACKAGES)?;
    }
    if !has_toolchain(DEBIAN) {
        println!("setup: rustup toolchain link {DEBIAN} /usr");
        shop::must(shop::bare("rustup").args(["toolchain", "link", DEBIAN, "/usr"]))?;
    }
    let sysroot = Path::new("/usr/lib/rustlib");
    link_lld(sysroot)?;
    if !links_wasm(Some(DEBIAN)) {
        build_std(&sysroot.join(TARGET).join("lib"))?;
    }
    if !links_wasm(Some(DEBIAN)) {
        return Err(format!(
            "Debian's rustc still cannot link for {TARGET}: run \"rustc +{DEBIAN} --target {TARGET}\" on a small crate to see why"
        ));
    }
    choose_debian(shop)
}

/// Builds a small library: only that shows that std is there, fits the compiler, and can be linked.
fn links_wasm(toolchain: Option<&str>) -> bool {
    let folder = scratch("probe");
    if std::fs::create_dir_all(&folder).is_err() {
        return false;
    }
    let mut rustc = shop::bare("rustc");
    if let Some(toolchain) = toolchain {
        rustc.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    rustc.args(["--target", TARGET, "--crate-type", "cdylib", "--crate-name", "probe", "-", "-o"]);
    rustc.arg(folder.join("probe.wasm"));
    rustc.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let linked = rustc.spawn().and_then(|mut child| {
        if let Some(mut source) = child.stdin.take() {
            // A compiler without the target may hang up before it has read this.
            let _ =
                source.write_all(b"#[unsafe(no_mangle)] pub extern \"C\" fn f(n: usize) -> usize { vec![n; n].len() }");
        }
        child.wait()
    });
    let _ = std::fs::remove_dir_all(&folder);
    linked.is_ok_and(|status| status.success())
}

fn scratch(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("paddock-{what}-{}", std::process::id()))
}

fn has_toolchain(name: &str) -> bool {
    let list = shop::output(shop::bare("rustup").args(["toolchain", "list"])).unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().next() == Some(name))
}

/// Plain cargo and trunk in this checkout then use it as well.
fn choose_debian(shop: &mut Shop) -> Result<()> {
    shop.toolchain = Some(DEBIAN.to_string());
    // A CI clone is gone tomorrow, its override would stay.
    if std::env::var_os("CI").is_none() && !is_overridden(shop) {
        println!("setup: rustup override set {DEBIAN} (for plain cargo and trunk in this checkout)");
        shop::must(
            shop::bare("rustup").args(["override", "set", DEBIAN, "--path"]).arg(&shop.root).stderr(Stdio::null()),
        )?;
    }
    Ok(())
}

fn is_overridden(shop: &Shop) -> bool {
    let list = shop::output(shop::bare("rustup").args(["override", "list"])).unwrap_or_default();
    let root = shop.root.to_string_lossy();
    list.lines().any(|line| line.trim_end().strip_suffix(DEBIAN).is_some_and(|path| path.trim_end() == root))
}

fn debian_is_installed() -> bool {
    PACKAGES.iter().all(|package| {
        let status =
            shop::output(Command::new("dpkg-query").args(["--show", "--showformat", "${db:Status-Status}", package]));
        status.as_deref() == Some("installed")
    })
}

/// rustc asks for rust-lld, which Debian does not ship; its lld is the same program.
fn link_lld(sysroot: &Path) -> Result<()> {
    let about = shop::output(Command::new("/usr/bin/rustc").arg("-vV")).ok_or("/usr/bin/rustc does not run")?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("/usr/bin/rustc names no host")?;
    let folder = sysroot.join(host).join("bin");
    let lld = folder.join("rust-lld");
    if lld.exists() {
        return Ok(());
    }
    println!("setup: {} becomes /usr/bin/lld-19", lld.display());
    shop::must(shop::as_root("mkdir")?.arg("-p").arg(&folder))?;
    shop::must(shop::as_root("ln")?.arg("-sf").arg("/usr/bin/lld-19").arg(&lld))
}

/// Builds std for wasm with Debian's compiler and source, and lays its libraries into `folder`.
fn build_std(folder: &Path) -> Result<()> {
    println!("setup: building Rust's std for {TARGET} (about a minute)");
    let work = scratch("std");
    let result = build_std_in(&work, folder);
    let _ = std::fs::remove_dir_all(&work);
    result
}

fn build_std_in(work: &Path, folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", work.display());
    std::fs::create_dir_all(work.join("src")).map_err(failed)?;
    std::fs::write(work.join("Cargo.toml"), "[package]\nname = \"seed\"\nedition = \"2024\"\n[workspace]\n")
        .map_err(failed)?;
    std::fs::write(work.join("src").join("lib.rs"), "").map_err(failed)?;
    let mut cargo = shop::bare("/usr/bin/cargo");
    cargo.current_dir(work).args(["build", "--quiet", "--release", "-Zbuild-std=std,panic_abort", "--target", TARGET]);
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", work.join("target"));
    cargo.env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER");
    shop::must(&mut cargo)?;

    let built = libraries(&work.join("target").join(TARGET).join("release").join("deps")).map_err(failed)?;
    let built: Vec<_> = built.into_iter().filter(|file| !name_of(file).starts_with("libseed-")).collect();
    if !built.iter().any(|file| name_of(file).starts_with("libstd-")) {
        return Err("the build of Rust's std left no libstd: is the package rust-web-src installed?".to_string());
    }
    // Those of an older compiler would stand beside the new ones.
    let old = libraries(folder).unwrap_or_default();
    if !old.is_empty() {
        shop::must(shop::as_root("rm")?.arg("-f").args(&old))?;
    }
    shop::must(shop::as_root("mkdir")?.arg("-p").arg(folder))?;
    shop::must(shop::as_root("install")?.args(["-m", "644", "-t"]).arg(folder).args(&built))
}

fn libraries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rlib") {
            files.push(path);
        }
    }
    Ok(files)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs Debian's rust-web-src and a minute: `cargo test -p xtask -- --ignored builds_std`.
    #[test]
    #[ignore = "needs Debian's rust-web-src"]
    fn builds_std_into_a_folder() {
        let folder = scratch("std-test");
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        std::fs::write(folder.join("libold-1.rlib"), "of an older compiler").expect("a file");
        build_std(&folder).expect("std builds");
        let names: Vec<String> = libraries(&folder).expect("the folder").iter().map(|file| name_of(file)).collect();
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        for start in ["libstd-", "libcore-", "liballoc-", "libpanic_abort-", "libcompiler_builtins-"] {
            assert_eq!(names.iter().filter(|name| name.starts_with(start)).count(), 1, "{start} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.starts_with("libold") || name.starts_with("libseed")), "{names:?}");
    }
}
