//! Which trial is next, given the results so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use super::{
    Report,
    file::{MOST_TRIALS, Search, Strategy, Sweep, free},
    metric::{self, Direction},
    space::Values,
};
use crate::{
    config::{Config, RawConfig, keys, rule::Key},
    error::{Error, Result},
    eval::{Metric, Metrics},
    rng,
};

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Trial {
    /// 0 is the base as it is.
    pub trial: usize,
    /// Of successive halving, from 0.
    pub rung: usize,
    /// What is set over the base, by the keys' full names.
    #[ts(type = "Record<string, unknown>")]
    pub settings: BTreeMap<String, Value>,
    /// Its budget, where the sweep has one of its own.
    #[serde(default)]
    #[ts(type = "number | null")]
    pub max_steps: Option<u64>,
}

/// How a trial ended: with metrics, or with what went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct TrialResult {
    #[serde(flatten)]
    pub trial: Trial,
    pub metrics: Option<Metrics>,
    /// Held-out rows that were measured on.
    #[ts(type = "number")]
    pub rows: u64,
    #[ts(type = "number")]
    pub steps: u64,
    pub seconds: f64,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Run(Trial),
    Done,
}

/// What a shell has to know to go on with a sweep.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct SweepStep {
    /// What to run next, with its configuration; none where the sweep is over.
    pub trial: Option<Trial>,
    pub config: Option<Box<RawConfig>>,
    /// Settings that are tried, and runs at the most.
    pub settings: usize,
    pub runs: usize,
    /// Of the results so far.
    pub report: Report,
}

impl SweepStep {
    /// # Errors
    /// As [`Planner::new`], and where a result is of another sweep.
    pub fn new(sweep: &Sweep, results: &[TrialResult]) -> Result<Self> {
        let planner = Planner::new(sweep)?;
        planner.check(results)?;
        let trial = match planner.next(results) {
            Next::Run(trial) => Some(trial),
            Next::Done => None,
        };
        let config = trial.as_ref().map(|trial| planner.config(trial).map(Box::new)).transpose()?;
        let (settings, runs) = planner.counts();
        Ok(Self { trial, config, settings, runs, report: planner.report(results) })
    }
}

/// A sweep whose every trial is known to be a valid configuration.
#[derive(Debug)]
pub struct Planner {
    pub(super) metric: Metric,
    pub(super) direction: Direction,
    base: RawConfig,
    /// The settings that are tried, the default's (none) first, no two the same run.
    settings: Vec<BTreeMap<String, Value>>,
    /// Steps a trial in each rung; one rung but for successive halving.
    rungs: Vec<Option<u64>>,
    eta: usize,
}

impl Planner {
    /// # Errors
    /// Names the key that does not fit, or the combination of settings that is refused.
    pub fn new(sweep: &Sweep) -> Result<Self> {
        let config = Config::resolve(&sweep.base)?;
        let mut errors = Vec::new();
        let search = Search::each(&sweep.search, &mut errors);
        let Some(search) = search else {
            let unknown = || Error::session("This sweep cannot be used.", "Start from an empty one.");
            return Err(errors.pop().unwrap_or_else(unknown));
        };
        let mut space = Vec::new();
        for (name, values) in &sweep.space {
            let key = keys::find(name)
                .ok_or_else(|| Error::config(format!("space.{name}"), "a key of run.yaml", "no such key"))?;
            free(key)?;
            values.check(key)?;
            space.push((key, values));
        }
        if space.is_empty() {
            return Err(Error::config("space", "at least one key", "none"));
        }
        let metric = search.metric.unwrap_or_else(|| metric::usual(&config));
        config.task.check_metric("metric", metric, &config)?;
        let mut planner = Self {
            metric,
            direction: search.direction.unwrap_or(Direction::of(metric)),
            base: sweep.base.clone(),
            settings: vec![BTreeMap::new()],
            rungs: rungs(&search, config.training.max_steps)?,
            eta: search.eta,
        };
        match search.strategy {
            Strategy::Grid => planner.grid(&space)?,
            Strategy::Random | Strategy::Halving => planner.draw(&space, &search)?,
        }
        Ok(planner)
    }

    fn grid(&mut self, space: &[(&Key, &Values)]) -> Result<()> {
        let mut all = vec![BTreeMap::new()];
        for (key, values) in space {
            let Values::List(values) = values else {
                let got = "a range, which has no end of values";
                return Err(Error::config(format!("space.{}", key.name), "a list, as the strategy is grid", got));
            };
            let count = all.len().saturating_mul(values.len());
            if count > MOST_TRIALS {
                return Err(Error::config("space", format!("at most {MOST_TRIALS} combinations"), count));
            }
            let with = |settings: &BTreeMap<String, Value>, value: &Value| {
                let mut settings = settings.clone();
                settings.insert(key.name.to_owned(), value.clone());
                settings
            };
            all = all.iter().flat_map(|settings| values.iter().map(move |value| with(settings, value))).collect();
        }
        let mut seen = vec![Config::resolve(&self.base)?];
        for settings in all {
            self.add(settings, &mut seen)?;
        }
        Ok(())
    }

    fn draw(&mut self, space: &[(&Key, &Values)], search: &Search) -> Result<()> {
        let mut seen = vec![Config::resolve(&self.base)?];
        // A small space runs out of combinations: after as many draws in vain as this it is taken to have done so.
        let mut draws = (0..).map(|draw| rng::stream(search.seed, rng::SWEEP + draw));
        let mut in_vain = 0;
        while self.settings.len() <= search.trials && in_vain < 100 {
            let Some(mut rng) = draws.next() else { break };
            let drawn = space.iter().map(|(key, values)| (key.name.to_owned(), values.draw(key, &mut rng))).collect();
            in_vain = if self.add(drawn, &mut seen)? { 0 } else { in_vain + 1 };
        }
        Ok(())
    }

    /// Takes settings up, unless a trial before has the same run.
    fn add(&mut self, settings: BTreeMap<String, Value>, seen: &mut Vec<Config>) -> Result<bool> {
        let config = Config::resolve(&self.over_base(&settings)?)?;
        if seen.contains(&config) {
            return Ok(false);
        }
        seen.push(config);
        self.settings.push(settings);
        Ok(true)
    }

    fn over_base(&self, settings: &BTreeMap<String, Value>) -> Result<RawConfig> {
        let mut raw = self.base.clone();
        for (name, value) in settings {
            let key = keys::find(name).ok_or_else(|| Error::config(name, "a key of run.yaml", "no such key"))?;
            raw.put(key, value.clone())?;
        }
        Ok(raw)
    }

    /// The configuration that a trial is run with.
    ///
    /// # Errors
    /// Where the trial is not of this sweep.
    pub fn config(&self, trial: &Trial) -> Result<RawConfig> {
        let mut raw = self.over_base(&trial.settings)?;
        raw.training.max_steps = trial.max_steps.or(raw.training.max_steps);
        Config::resolve(&raw)?;
        Ok(raw)
    }

    /// Settings that are tried, the default among them, and runs at the most.
    pub fn counts(&self) -> (usize, usize) {
        let tried = self.settings.len();
        let mut entrants = tried - 1;
        let mut runs = 0;
        for _ in &self.rungs {
            runs += entrants + 1;
            entrants = self.kept(entrants);
        }
        (tried, runs)
    }

    /// Of a rung's entrants without the default.
    fn kept(&self, entrants: usize) -> usize {
        entrants.div_ceil(self.eta)
    }

    /// The next run, given the results so far in any order.
    pub fn next(&self, results: &[TrialResult]) -> Next {
        for rung in 0..self.rungs.len() {
            for trial in self.entrants(rung, results) {
                if !results.iter().any(|result| result.trial.trial == trial && result.trial.rung == rung) {
                    return Next::Run(self.trial(trial, rung));
                }
            }
        }
        Next::Done
    }

    fn trial(&self, trial: usize, rung: usize) -> Trial {
        Trial { trial, rung, settings: self.settings[trial].clone(), max_steps: self.rungs[rung] }
    }

    /// The default and those that came through the rung before, as far as its results are there.
    fn entrants(&self, rung: usize, results: &[TrialResult]) -> Vec<usize> {
        let Some(before) = rung.checked_sub(1) else { return (0..self.settings.len()).collect() };
        let entered = self.entrants(before, results).len() - 1;
        let mut ranked = self.ranked(before, results);
        ranked.retain(|result| result.trial.trial != 0 && result.metrics.is_some());
        let mut through: Vec<usize> = ranked.iter().map(|result| result.trial.trial).take(self.kept(entered)).collect();
        through.sort_unstable();
        std::iter::once(0).chain(through).collect()
    }

    /// A rung's results, the best first, those that failed last.
    pub(super) fn ranked<'r>(&self, rung: usize, results: &'r [TrialResult]) -> Vec<&'r TrialResult> {
        let mut ranked: Vec<_> = results.iter().filter(|result| result.trial.rung == rung).collect();
        // Among equals the lower loss, then the earlier trial: the default before all others.
        ranked.sort_by(|a, b| {
            let key = |result: &TrialResult| (self.value(result), result.metrics.as_ref().map(|m| m.loss));
            match (key(a), key(b)) {
                ((Some(x), Some(xl)), (Some(y), Some(yl))) => {
                    let lead = self.direction.lead(x, y);
                    0.0_f64.total_cmp(&lead).then(xl.total_cmp(&yl)).then(a.trial.trial.cmp(&b.trial.trial))
                }
                ((x, _), (y, _)) => y.is_some().cmp(&x.is_some()).then(a.trial.trial.cmp(&b.trial.trial)),
            }
        });
        ranked
    }

    pub(super) fn value(&self, result: &TrialResult) -> Option<f64> {
        self.metric.of(result.metrics.as_ref()?)
    }

    pub(super) fn last_rung(&self) -> usize {
        self.rungs.len() - 1
    }

    /// # Errors
    /// Where a result is not of this sweep: what a record holds was written by another run of the program.
    pub fn check(&self, results: &[TrialResult]) -> Result<()> {
        let known = |trial: &Trial| {
            trial.trial < self.settings.len()
                && trial.rung < self.rungs.len()
                && self.trial(trial.trial, trial.rung) == *trial
        };
        match results.iter().find(|result| !known(&result.trial)) {
            None => Ok(()),
            Some(TrialResult { trial, .. }) => Err(Error::session(
                format!("trial {} of rung {} is not one of this sweep's", trial.trial, trial.rung),
                "Begin the sweep again.",
            )),
        }
    }
}

/// Steps a trial of each rung: each has `eta` times those of the rung before, the last `max_steps`. They are runs of their own: the
/// learning rate's schedule ends with the steps, so a longer run is no continuation of a shorter one, and what is reported of
/// a trial is what its configuration gives alone. A survivor's earlier rungs cost less than 1 / (`eta` - 1) of its last.
fn rungs(search: &Search, base: Option<u64>) -> Result<Vec<Option<u64>>> {
    if search.strategy != Strategy::Halving {
        return Ok(vec![search.max_steps]);
    }
    let most = search.max_steps.or(base).ok_or_else(|| {
        let got = "nothing, and the base has no training.max_steps";
        Error::config("max_steps", "the steps of the last rung, as the strategy is halving", got)
    })?;
    let eta = search.eta as u64;
    let least = search.min_steps.unwrap_or((most / (eta * eta)).max(1));
    if least >= most {
        return Err(Error::config("min_steps", format!("fewer steps than max_steps, {most}"), least));
    }
    let mut rungs = vec![Some(most)];
    let mut steps = most / eta;
    while steps >= least {
        rungs.push(Some(steps));
        steps /= eta;
    }
    rungs.reverse();
    Ok(rungs)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
