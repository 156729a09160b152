//! Which state may follow which: the one table that the engine keeps to and ARCHITECTURE.md draws.

use crate::event::State;

impl State {
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Preparing,
        Self::Evaluating,
        Self::Training,
        Self::Paused,
        Self::Recovering,
        Self::Succeeded,
        Self::Failed,
        Self::Applying,
    ];

    /// The states that may follow this one.
    pub fn next(self) -> &'static [Self] {
        match self {
            // At rest: a run, an adapter to open, rows to measure, a model to use.
            Self::Idle | Self::Succeeded | Self::Failed => &[Self::Preparing, Self::Evaluating, Self::Applying],
            // A run goes on to its first measurement, or where it was; an opened adapter is ready.
            Self::Preparing => &[Self::Evaluating, Self::Training, Self::Recovering, Self::Idle, Self::Failed],
            Self::Evaluating => &[Self::Training, Self::Recovering, Self::Succeeded, Self::Idle, Self::Failed],
            Self::Training => &[Self::Paused, Self::Evaluating, Self::Recovering, Self::Failed],
            Self::Paused => &[Self::Training],
            Self::Recovering => &[Self::Training, Self::Evaluating, Self::Failed],
            Self::Applying => &[Self::Idle, Self::Failed],
        }
    }

    /// As the diagram and the protocol name it.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// The transitions as a diagram in Mermaid's language.
pub fn diagram() -> String {
    let mut out = String::from("stateDiagram-v2\n    [*] --> idle\n");
    for from in State::ALL {
        for to in from.next() {
            out += &format!("    {} --> {}\n", from.name(), to.name());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_draws_the_table() {
        let text = include_str!("../../ARCHITECTURE.md");
        let drawn = text.split("```mermaid\n").nth(1).and_then(|rest| rest.split("```").next());
        assert_eq!(drawn, Some(diagram().as_str()), "put this diagram into ARCHITECTURE.md:\n{}", diagram());
    }

    #[test]
    fn every_state_can_be_reached_and_left() {
        for state in State::ALL {
            assert!(!state.next().is_empty());
            assert!(state == State::Idle || State::ALL.iter().any(|from| from.next().contains(&state)));
        }
    }
}
