//! Which tile computes a product on a card: by the class of its shape, as a rule says, or as was measured on the adapter
//! ([`super::calibrate()`]) and kept for later runs.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use super::wgsl::SLICED;
use crate::{
    storage::{Storage, get, put},
    weights::folder::json_bytes,
};

/// How a product is divided among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "ProductTile")]
pub enum Tile {
    /// Each thread computes rows and columns by itself.
    Registers,
    /// A workgroup computes 128 by 128 out of shared memory, 8 by 8 a thread; 64 by 64 where that does not fit.
    Shared128,
    /// 64 by 64, 8 by 8 a thread.
    Shared64Wide,
    /// 64 by 64, 4 by 4 a thread.
    Shared64,
    /// 32 by 32, 4 by 4 a thread.
    Shared32,
    /// 16 by 16, each thread a slice of the sums.
    Sliced,
}

impl Tile {
    const ALL: [Self; 6] =
        [Self::Registers, Self::Shared128, Self::Shared64Wide, Self::Shared64, Self::Shared32, Self::Sliced];
}

/// Products that are divided alike: by how many parts of a size there are to be computed side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "ProductClass")]
pub enum Class {
    /// 96 parts of 64 by 64 and more.
    Medium,
    /// Fewer; 64 parts of 32 by 32, or short sums.
    Small,
    /// 128 parts of 128 by 128 and more.
    Large,
    /// At most 16 rows or columns.
    Thin,
    /// Few parts, of long sums.
    Least,
}

impl Class {
    /// In the order in which they are measured: what matters most first.
    pub const ALL: [Self; 5] = [Self::Medium, Self::Small, Self::Large, Self::Thin, Self::Least];

    /// Of `batch` products of `m` by `n` with sums of `k`.
    pub fn of([batch, m, n, k]: [usize; 4]) -> Self {
        let parts = |size: usize| batch * m.div_ceil(size) * n.div_ceil(size);
        if m.min(n) <= SLICED && k >= 64 {
            Self::Thin
        } else if parts(128) >= 128 {
            Self::Large
        } else if parts(64) >= 96 {
            Self::Medium
        } else if parts(32) >= 64 || k < 256 {
            Self::Small
        } else {
            Self::Least
        }
    }

    /// What can be taken: first what the rule takes, found on cards with many cores.
    pub fn candidates(self) -> &'static [Tile] {
        use Tile::{Registers, Shared32, Shared64, Shared64Wide, Shared128, Sliced};
        match self {
            Self::Medium => &[Shared64, Shared64Wide, Shared32, Registers],
            Self::Small => &[Shared32, Shared64, Sliced, Registers],
            Self::Large => &[Shared128, Shared64Wide, Shared64],
            Self::Thin => &[Sliced, Shared32, Registers],
            Self::Least => &[Sliced, Shared32, Registers],
        }
    }

    pub fn rule(self) -> Tile {
        self.candidates().first().copied().unwrap_or(Tile::Registers)
    }

    /// `m`, `n` and `k` of a product that stands for the class.
    pub fn sample(self) -> [usize; 3] {
        match self {
            Self::Medium => [640, 640, 512],
            Self::Small => [256, 256, 512],
            Self::Large => [1536, 1536, 256],
            Self::Thin => [512, 8, 576],
            Self::Least => [128, 128, 1024],
        }
    }
}

/// The tile of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "ProductTiles")]
pub struct Choices {
    pub medium: Tile,
    pub small: Tile,
    pub large: Tile,
    pub thin: Tile,
    pub least: Tile,
}

impl Default for Choices {
    /// The rule's.
    fn default() -> Self {
        let [medium, small, large, thin, least] = Class::ALL.map(Class::rule);
        Self { medium, small, large, thin, least }
    }
}

impl Choices {
    pub fn of(&self, class: Class) -> Tile {
        match class {
            Class::Medium => self.medium,
            Class::Small => self.small,
            Class::Large => self.large,
            Class::Thin => self.thin,
            Class::Least => self.least,
        }
    }

    /// With another tile for a class.
    pub fn with(mut self, class: Class, tile: Tile) -> Self {
        *match class {
            Class::Medium => &mut self.medium,
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
            Class::Thin => &mut self.thin,
            Class::Least => &mut self.least,
        } = tile;
        self
    }

    /// Four bits a class: the tile's number from 1.
    fn word(&self) -> u32 {
        Class::ALL.iter().fold(0, |word, class| word | (self.of(*class) as u32 + 1) << (4 * *class as u32))
    }
}

/// What a word of [`Choices::word`] has for a class; the rule's where it has none.
fn tile(word: u32, class: Class) -> Tile {
    let number = word >> (4 * class as u32) & 15;
    let tile = number.checked_sub(1).and_then(|at| Tile::ALL.get(at as usize).copied());
    tile.unwrap_or_else(|| class.rule())
}

static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// Takes these from here on.
pub fn use_choices(choices: Choices) {
    CHOSEN.store(choices.word(), Ordering::Relaxed);
}

pub(super) fn chosen(class: Class) -> Tile {
    tile(CHOSEN.load(Ordering::Relaxed), class)
}

/// By adapter: what was found best on it.
const FILE: &str = "kernels.json";
const MOST_BYTES: u64 = 64 << 10;
/// Adapters that are remembered: a machine has few, but each new version of a program counts as another.
const MOST_ADAPTERS: usize = 64;

async fn all(storage: &dyn Storage) -> BTreeMap<String, Value> {
    let bytes = get(storage, FILE, MOST_BYTES).await.unwrap_or_default();
    // What cannot be read is measured again.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// What was kept for this adapter.
pub async fn kept(storage: &dyn Storage, adapter: &str) -> Option<Choices> {
    let found = all(storage).await.remove(adapter)?;
    serde_json::from_value(found).ok()
}

/// Keeps what was found on an adapter.
///
/// # Errors
/// The storage's.
pub async fn keep(storage: &dyn Storage, adapter: &str, choices: &Choices) -> io::Result<()> {
    let mut adapters = all(storage).await;
    adapters.insert(adapter.to_owned(), serde_json::to_value(choices)?);
    while adapters.len() > MOST_ADAPTERS {
        let other = adapters.keys().find(|name| *name != adapter).cloned();
        other.and_then(|name| adapters.remove(&name));
    }
    put(storage, FILE, &json_bytes(&adapters)).await
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn samples_are_of_their_class() {
        for class in Class::ALL {
            let [m, n, k] = class.sample();
            assert_eq!(Class::of([1, m, n, k]), class);
            // The kernels for cards want fours.
            assert!([m, n, k].iter().all(|size| size.is_multiple_of(4)), "{class:?}");
        }
        // Of SmolLM2's linears at 512 tokens, and of attention's products.
        assert_eq!(Class::of([1, 512, 1536, 576]), Class::Medium);
        assert_eq!(Class::of([1, 512, 49152, 576]), Class::Large);
        assert_eq!(Class::of([1, 512, 8, 576]), Class::Thin);
        assert_eq!(Class::of([1, 8, 576, 512]), Class::Thin);
        assert_eq!(Class::of([12, 384, 128, 64]), Class::Medium);
        assert_eq!(Class::of([1, 128, 128, 64]), Class::Small);
    }

    #[test]
    fn choices_go_into_a_word_and_out_of_it() {
        for class in Class::ALL {
            assert_eq!(tile(0, class), class.rule());
            // No tile has this number.
            assert_eq!(tile(u32::MAX, class), class.rule());
            for chosen in Tile::ALL {
                let choices = Choices::default().with(class, chosen);
                for other in Class::ALL {
                    let wanted = if other == class { chosen } else { other.rule() };
                    assert_eq!((tile(choices.word(), other), choices.of(other)), (wanted, wanted));
                }
            }
        }
    }

    #[test]
    fn choices_are_kept_by_adapter() {
        let storage = MemoryStorage::default();
        assert_eq!(block_on(kept(&storage, "a")), None);
        let choices = Choices::default().with(Class::Medium, Tile::Registers);
        block_on(keep(&storage, "a", &choices)).expect("kept");
        block_on(keep(&storage, "b", &Choices::default())).expect("kept");
        assert_eq!(block_on(kept(&storage, "a")), Some(choices));
        assert_eq!(block_on(kept(&storage, "b")), Some(Choices::default()));
        for i in 0..2 * MOST_ADAPTERS {
            block_on(keep(&storage, &format!("card {i}"), &choices)).expect("kept");
        }
        let last = format!("card {}", 2 * MOST_ADAPTERS - 1);
        assert_eq!(block_on(kept(&storage, &last)), Some(choices));
        let size = storage.files.borrow()[FILE].len();
        assert!(size as u64 <= MOST_BYTES, "{size}");
    }

    #[test]
    fn what_cannot_be_read_is_not_taken() {
        let whole = serde_json::to_string(&Choices::default()).expect("JSON");
        for text in ["", "[]", "{", "{\"a\": 7}", "{\"a\": {\"medium\": \"shared_64\"}}", "\u{0}"] {
            let storage = MemoryStorage::default();
            storage.files.borrow_mut().insert(FILE.into(), text.into());
            assert_eq!(block_on(kept(&storage, "a")), None, "{text}");
            block_on(keep(&storage, "a", &Choices::default())).expect("written anew");
            assert_eq!(block_on(kept(&storage, "a")), Some(Choices::default()));
        }
        // Another adapter's, from a version with other tiles, is left as it is.
        let storage = MemoryStorage::default();
        let text = format!("{{\"a\": {whole}, \"b\": {{\"medium\": \"subgroups\"}}}}");
        storage.files.borrow_mut().insert(FILE.into(), text.into_bytes());
        assert_eq!((block_on(kept(&storage, "a")), block_on(kept(&storage, "b"))), (Some(Choices::default()), None));
        storage.files.borrow_mut().insert(FILE.into(), vec![b' '; MOST_BYTES as usize + 1]);
        assert_eq!(block_on(kept(&storage, "a")), None);
    }
}
