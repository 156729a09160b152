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
    platform::IN_TAB,
};

impl Engine {
    /// Takes the configuration's kernels; whether the adapter is to be measured first.
    ///
    /// # Errors
    /// `shared` on an adapter whose workgroups share too little, and `stock` in a browser.
    pub(super) async fn choose_kernels(&mut self, config: &Config, opened: &Opened) -> Result<bool> {
        if config.kernels == Kernels::Stock && IN_TAB {
            return Err(Error::config("kernels", "auto, registers or shared in a browser", "`stock`"));
        }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, rc::Rc};

    use burn::tensor::Device;
    use pollster::block_on;

    use super::*;
    use crate::{
        config::RawConfig,
        event::{Calibration, DeviceInfo},
        kernels::choice::{Class, Tile},
        storage::MemoryStorage,
    };

    fn card(name: &str, memory: u64) -> Opened {
        let limits = BTreeMap::from([("maxComputeWorkgroupStorageSize".to_owned(), memory)]);
        let (api, software, features) = ("Vulkan".to_owned(), false, Vec::new());
        Opened::new(Device::flex(), DeviceInfo { id: "gpu".into(), name: name.into(), api, software, features, limits })
    }

    fn config(kernels: &str) -> Config {
        let mut raw = RawConfig::default();
        raw.set("kernels", kernels).expect("a key");
        Config::resolve(&raw).expect("a configuration")
    }

    #[test]
    fn a_card_is_measured_once() {
        // What the kernels' own tests run on a GPU must not be changed beside them.
        if std::env::var_os("PADDOCK_TEST_GPU").is_some() {
            return;
        }
        let storage = MemoryStorage::default();
        let engine = || {
            let mut engine = Engine::new();
            engine.use_cache(Some(Rc::new(storage.clone())));
            engine
        };
        let (one, other, small) = (card("one", 48 << 10), card("other", 48 << 10), card("small", 8 << 10));
        let mut first = engine();
        assert!(block_on(first.choose_kernels(&config("auto"), &one)).expect("kernels"));
        let choices = Choices::default().with(Class::Least, Tile::Shared32);
        let found = Calibration { adapter: one.adapter(), choices, measured: Vec::new(), seconds: 0.5 };
        let mut events = vec![Event::Calibrated(found)];
        block_on(first.keep_kernels(&mut events));
        assert_eq!(events.len(), 1, "{events:?}");
        // In this process, and in the next one.
        for mut engine in [first, engine()] {
            assert!(!block_on(engine.choose_kernels(&config("auto"), &one)).expect("kernels"));
            assert_eq!(engine.calibrated.get(&one.adapter()), Some(&choices));
            assert!(block_on(engine.choose_kernels(&config("auto"), &other)).expect("kernels"));
            for (kernels, opened) in [("registers", &other), ("shared", &other), ("stock", &other), ("auto", &small)] {
                assert!(!block_on(engine.choose_kernels(&config(kernels), opened)).expect(kernels));
            }
            let error = block_on(engine.choose_kernels(&config("shared"), &small)).expect_err("too little memory");
            assert!(error.to_string().contains("8192 bytes"), "{error}");
        }
        use_kernels(Kernels::Auto);
        use_choices(Choices::default());
    }

    #[test]
    fn what_cannot_be_kept_is_told() {
        let mut engine = Engine::new();
        engine.use_cache(Some(Rc::new(MemoryStorage { room: 4, ..MemoryStorage::default() })));
        let choices = Choices::default();
        let found = Calibration { adapter: "a card".into(), choices, measured: Vec::new(), seconds: 0.5 };
        let mut events = vec![Event::Calibrated(found)];
        block_on(engine.keep_kernels(&mut events));
        assert!(
            matches!(&events[..], [_, Event::Warning { message }] if message.contains("could not be kept")),
            "{events:?}"
        );
        assert_eq!(engine.calibrated.get("a card"), Some(&choices));
    }
}
