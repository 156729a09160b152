//! The loss scale that keeps 16-bit gradients in range (arXiv:1710.03740), moved as `torch.cuda.amp.GradScaler` moves it.

use serde::{Deserialize, Serialize};

/// Steps without an overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;

/// What the loss is multiplied by before backward, and gradients divided by after it. Always a power of two, so that
/// neither rounds. The fields have the names of torch's `state_dict`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GradScaler {
    scale: f64,
    #[serde(rename = "_growth_tracker")]
    growth_tracker: u32,
}

impl Default for GradScaler {
    fn default() -> Self {
        Self::new(65_536.0)
    }
}

impl GradScaler {
    pub fn new(scale: f64) -> Self {
        Self { scale, growth_tracker: 0 }
    }

    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether a smaller scale may help against an overflow. Under 1 it is the gradient itself that is not finite.
    pub fn can_shrink(&self) -> bool {
        self.scale > 1.0
    }

    /// After each step: halved where its gradient was not `finite`, doubled after 2000 steps in a row where it was.
    pub fn update(&mut self, finite: bool) {
        if !finite {
            self.scale /= 2.0;
            self.growth_tracker = 0;
            return;
        }
        self.growth_tracker += 1;
        if self.growth_tracker == GROWTH_INTERVAL {
            self.growth_tracker = 0;
            // The device multiplies in f32.
            if self.scale * 2.0 <= f64::from(f32::MAX) {
                self.scale *= 2.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scales of `torch.cuda.amp.GradScaler` for the same overflows: tests/reference/grad_scaler.py.
    #[test]
    fn it_moves_as_torch_moves_it() {
        let mut scaler = GradScaler::default();
        let mut seen = vec![scaler.scale()];
        for step in 0..6010 {
            scaler.update(![0, 1, 1500, 5999].contains(&step));
            if seen.last() != Some(&scaler.scale()) {
                seen.push(scaler.scale());
            }
        }
        assert_eq!(seen, [65_536.0, 32_768.0, 16_384.0, 8192.0, 16_384.0, 32_768.0, 16_384.0]);
    }

    #[test]
    fn it_stays_within_f32_and_ends_at_one() {
        let mut scaler = GradScaler::new(2f64.powi(127));
        (0..GROWTH_INTERVAL).for_each(|_| scaler.update(true));
        assert_eq!(scaler.scale(), 2f64.powi(127));
        let mut scaler = GradScaler::new(2.0);
        assert!(scaler.can_shrink());
        scaler.update(false);
        assert!(!scaler.can_shrink());
    }

    #[test]
    fn a_checkpoint_of_it_goes_on_where_it_was() {
        let mut scaler = GradScaler::default();
        (0..1999).for_each(|_| scaler.update(true));
        let json = serde_json::to_string(&scaler).expect("serializable");
        assert_eq!(json, r#"{"scale":65536.0,"_growth_tracker":1999}"#);
        let mut back: GradScaler = serde_json::from_str(&json).expect("the same");
        back.update(true);
        assert_eq!(back.scale(), 131_072.0);
    }
}
