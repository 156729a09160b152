//! The ready recipes.

use std::{fs, path::Path};

use paddock::{
    config::{Config, RawConfig},
    sweep::{Base, Planner, SweepFile},
};

#[test]
fn every_recipe_is_valid_and_begins_with_its_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (mut runs, mut sweeps) = (0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let yaml = read(name);
        let first = yaml.lines().next().unwrap();
        assert!(first.contains(&format!("configs/{name}")), "{first}");
        let schema = |name: &str| format!("# yaml-language-server: $schema=../../docs/{name}.schema.json");
        if first.starts_with("# paddock sweep ") {
            assert_eq!(yaml.lines().nth(1), Some(schema("sweep").as_str()), "{name}");
            let file = SweepFile::from_yaml(&yaml, name).unwrap();
            let Some(Base::Path(base)) = &file.base else { panic!("{name} has no base") };
            let base = RawConfig::from_yaml(&read(base), base).unwrap();
            Planner::new(&file.over(base)).unwrap_or_else(|error| panic!("{name}: {error}"));
            sweeps += 1;
        } else {
            assert!(first.starts_with("# paddock train "), "{first}");
            assert_eq!(yaml.lines().nth(1), Some(schema("run").as_str()), "{name}");
            let raw = RawConfig::from_yaml(&yaml, name).unwrap();
            Config::resolve(&raw).unwrap_or_else(|error| panic!("{name}: {error}"));
            runs += 1;
        }
    }
    assert!(runs >= 3 && sweeps >= 1);
}
