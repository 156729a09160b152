//! `paddock export`, and what `train` writes.

use paddock::event::{Command, FileInfo};
use serde_json::{Value, json};

use crate::{
    args::{CommonArgs, ExportArgs},
    driver::{self, Driver},
    files::{OutputDir, RECORD, Result},
    output::{self, Output},
    trained::Trained,
};

pub fn run(args: &ExportArgs, output: &mut Output) -> Result<()> {
    let common = CommonArgs { device: args.device.clone(), ..CommonArgs::default() };
    let trained = Trained::find(&args.trained, &common)?;
    let folder = OutputDir::prepare(&args.output_dir, args.overwrite_output_dir, &trained.inputs())?;
    let mut driver = Driver::new(output);
    trained.open(&mut driver, None)?;
    driver::stop_on_interrupt()?;
    let (format, dtype, name) = (args.format.into(), args.dtype.map(Into::into), args.plugin_name.clone());
    let export = Command::Export { format, dtype, zip: args.zip, name };
    let files = write(&mut driver, &folder, export, &json!({}))?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let place = args.output_dir.display();
    let text = format!("{} files, {}, written to {place}", files.len(), output::bytes(bytes));
    output.result(json!({"output_dir": place.to_string(), "files": files}), &text)
}

/// Exports into `folder`. Its `metrics.json`, where there is one, gets `more` keys and the names of all files, so that
/// a later run with --overwrite_output_dir can remove what this one wrote.
pub fn write(driver: &mut Driver<'_>, folder: &OutputDir, export: Command, more: &Value) -> Result<Vec<FileInfo>> {
    let mut writing = folder.writing();
    let files = driver.export(export, &mut writing)?;
    if let Some(record) = writing.read(RECORD)? {
        let mut record: Value = serde_json::from_slice(&record).unwrap_or_default();
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        record["files"] = json!(writing.names());
        writing.put(RECORD, format!("{record:#}\n").as_bytes())?;
    }
    writing.finish()?;
    Ok(files)
}
