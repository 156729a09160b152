//! The ready recipes.

use std::{fs, path::Path};

use paddock::config::{Config, RawConfig};

#[test]
fn every_recipe_is_valid_and_begins_with_its_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let yaml = fs::read_to_string(&path).unwrap();
        let raw = RawConfig::from_yaml(&yaml, name).unwrap();
        Config::resolve(&raw).unwrap_or_else(|error| panic!("{name}: {error}"));
        let first = yaml.lines().next().unwrap();
        assert!(first.starts_with("# paddock train ") && first.contains(&format!("configs/{name}")), "{first}");
        seen += 1;
    }
    assert!(seen >= 3);
}
