//! A short measurement of an adapter: which tile is the fastest for each class of products. The rule's choice stays
//! where nothing is clearly faster, or where the time is over.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{
    Layout,
    choice::{Choices, Class, Tile, use_choices},
    product,
};
use crate::{
    device::Opened,
    error::{Error, Result},
    platform,
    weights::read_f32,
};

/// Seconds after which nothing more is measured.
const SECONDS: f64 = 0.9;
/// Seconds that a measurement takes at least: many times a browser's clock.
const LONG: f64 = 0.01;
/// The faster of two counts, since whatever else a machine does only slows it down.
const ROUNDS: usize = 2;
/// Work that waits for the device at once.
const MOST_TIMES: usize = 1 << 10;
/// Another tile takes the place of the rule's where it is so many times as fast.
const BETTER: f64 = 1.1;

/// What was found on an adapter.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Calibration {
    /// What it holds for, see [`Opened::adapter`].
    pub adapter: String,
    /// The tile of each class of products.
    pub choices: Choices,
    pub measured: Vec<Measured>,
    pub seconds: f64,
}

/// A tile at its class' sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "MeasuredTile")]
pub struct Measured {
    pub class: Class,
    pub tile: Tile,
    /// 10⁹ floating-point operations a second.
    pub gflops: f64,
}

/// Measures the products of a card, and takes what it finds from there on.
///
/// # Errors
/// The device was lost. A kernel that it does not take is not chosen.
pub async fn calibrate(opened: &Opened) -> Result<Calibration> {
    let started = platform::now();
    let found = measure(&opened.device, started).await;
    let choices = found.as_ref().map(|measured| best(measured)).unwrap_or_default();
    use_choices(choices);
    Ok(Calibration { adapter: opened.adapter(), choices, measured: found?, seconds: platform::now() - started })
}

async fn measure(device: &Device, started: f64) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for class in Class::ALL {
        let [m, n, k] = class.sample();
        let ones = filled([1, n, k], 1.0, device);
        let mut times = 4;
        for (value, tile) in [0.5, 1.0, 1.5, 2.0].into_iter().zip(class.candidates()) {
            if platform::now() - started > SECONDS {
                return Ok(measured);
            }
            use_choices(Choices::default().with(class, *tile));
            // Other numbers for each: a result may stand where the last one stood.
            let lhs = filled([1, m, k], value, device);
            match seconds(&lhs, &ones, value * k as f32, &mut times).await {
                Ok(Some(seconds)) => {
                    let gflops = 2.0 * (m * n * k) as f64 / seconds / 1e9;
                    measured.push(Measured { class, tile: *tile, gflops });
                }
                Err(Error::DeviceLost) => return Err(Error::DeviceLost),
                Ok(None) | Err(_) => {}
            }
        }
    }
    Ok(measured)
}

fn filled(shape: [usize; 3], value: f32, device: &Device) -> Tensor<3> {
    let numbers = vec![value; shape.iter().product()];
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// Of one product; none where its numbers are not `right`. `times`: how many of them take long enough.
async fn seconds(lhs: &Tensor<3>, rhs: &Tensor<3>, right: f32, times: &mut usize) -> Result<Option<f64>> {
    let ([_, m, _], [_, n, _]) = (lhs.dims(), rhs.dims());
    let run = || product(lhs.clone(), rhs.clone(), Layout::Nt);
    // The first time compiles. In a browser a kernel that cannot run is no error: it leaves the numbers as they were.
    let last = read_f32(run().slice([0..1, m - 1..m, 0..n])).await?;
    if last.iter().any(|number| *number != right) {
        return Ok(None);
    }
    let (mut best, mut rounds) = (f64::INFINITY, 0);
    while rounds < ROUNDS {
        let started = platform::now();
        let mut last = run();
        for _ in 1..*times {
            last = run();
        }
        read_f32(last.slice([0..1, 0..1, 0..1])).await?;
        let seconds = (platform::now() - started).max(1e-6);
        if seconds < LONG && *times < MOST_TIMES {
            *times *= 4;
            continue;
        }
        best = best.min(seconds / *times as f64);
        rounds += 1;
    }
    Ok(Some(best))
}

/// The tile of each class.
fn best(measured: &[Measured]) -> Choices {
    Class::ALL.into_iter().fold(Choices::default(), |choices, class| {
        let of = |tile: Option<Tile>| {
            let these = measured.iter().filter(|one| one.class == class && tile.is_none_or(|tile| one.tile == tile));
            these.max_by(|a, b| a.gflops.total_cmp(&b.gflops))
        };
        let usual = of(Some(class.rule())).map_or(0.0, |one| one.gflops);
        match of(None) {
            Some(fastest) if fastest.gflops > BETTER * usual => choices.with(class, fastest.tile),
            _ => choices,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::gpu, *};

    #[test]
    fn what_is_clearly_faster_is_taken() {
        let one = |class, tile, gflops| Measured { class, tile, gflops };
        let rule = Choices::default();
        assert_eq!(best(&[]), rule);
        let medium = [
            one(Class::Medium, Tile::Shared64, 100.0),
            one(Class::Medium, Tile::Shared64Wide, 109.0),
            one(Class::Large, Tile::Shared128, 500.0),
        ];
        assert_eq!(best(&medium), rule);
        let registers = [medium.as_slice(), &[one(Class::Medium, Tile::Registers, 130.0)]].concat();
        assert_eq!(best(&registers), rule.with(Class::Medium, Tile::Registers));
        // The rule's own could not run.
        let without = [one(Class::Large, Tile::Shared64, 20.0), one(Class::Large, Tile::Shared64Wide, 30.0)];
        assert_eq!(best(&without), rule.with(Class::Large, Tile::Shared64Wide));
    }

    /// On a card: `PADDOCK_TEST_GPU=1 cargo test --release -p paddock --lib -- --nocapture a_card_is_measured`.
    #[test]
    fn a_card_is_measured_in_a_second() {
        let Some(opened) = gpu().filter(|opened| opened.is_card()) else { return };
        let found = pollster::block_on(calibrate(opened)).expect("a calibration");
        use_choices(Choices::default());
        println!("{found:#?}");
        // One measurement may be under way when the time is over.
        assert!(found.seconds < 3.0, "{}", found.seconds);
        assert!(found.measured.iter().any(|one| one.class == Class::Medium && one.tile == Tile::Shared64));
        assert!(found.measured.iter().all(|one| one.gflops.is_finite() && one.gflops > 0.0));
    }
}
