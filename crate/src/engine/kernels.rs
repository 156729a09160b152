//! Which kernels a run takes: what its configuration says, what was found on the adapter before, or what is still to be found.

use super::Engine;
use crate::{
    config::{Config, Kernels},
    device::Opened,
    error::{Error, Result},
    event::Event,
    kernels::{
        LEAST_SHARED,
        choice::{Choices, keep, kept, use_choices},
        use_kernels,
    },
};

impl Engine {
    /// Takes the configuration's kernels; whether the adapter is to be measured first.
    ///
    /// # Errors
    /// `shared` on an adapter whose workgroups share too little.
    pub(super) async fn choose_kernels(&mut self, config: &Config, opened: &Opened) -> Result<bool> {
        let memory = opened.shared_memory();
        if config.kernels == Kernels::Shared && opened.is_gpu() && memory < LEAST_SHARED {
            let got = format!("`shared` with {}, where a workgroup shares {memory} bytes", opened.info.name);
            return Err(Error::config("kernels", "auto, registers or stock", got));
        }
        use_kernels(config.kernels);
        use_choices(Choices::default());
        if config.kernels != Kernels::Auto || !opened.is_card() {
            return Ok(false);
        }
        let adapter = opened.adapter();
        let known = match (self.calibrated.get(&adapter), &self.cache) {
            (Some(choices), _) => Some(*choices),
            (None, Some(cache)) => kept(cache.as_ref(), &adapter).await,
            (None, None) => None,
        };
        let Some(choices) = known else { return Ok(true) };
        use_choices(choices);
        self.calibrated.insert(adapter, choices);
        Ok(false)
    }

    /// Keeps what a run found.
    pub(super) async fn keep_kernels(&mut self, events: &mut Vec<Event>) {
        let found = events.iter().find_map(|event| match event {
            Event::Calibrated(found) => Some((found.adapter.clone(), found.choices)),
            _ => None,
        });
        let Some((adapter, choices)) = found else { return };
        if let Some(cache) = &self.cache
            && let Err(error) = keep(cache.as_ref(), &adapter, &choices).await
        {
            let message =
                format!("What was measured on this GPU could not be kept ({error}): the next run measures again.");
            events.push(Event::Warning { message });
        }
        self.calibrated.insert(adapter, choices);
    }
}
