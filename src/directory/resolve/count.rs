//! How many different mailboxes each component reaches.

use std::collections::HashMap;

use super::TooTangled;
use super::graph::Closures;

/// Mailboxes that are sorted at a time: 8 MiB. Files with more are gone through several times.
const PASS: usize = 1 << 19;

/// Steps of counting before it is given up: some ten seconds. 500 lists in a chain that all share 1.2 million
/// members need a hundredth of this.
const MAX_WORK: u64 = 4_000_000_000;

/// The mailboxes that components name themselves, grouped by who names them.
pub struct Atoms {
    /// For each component, how many mailboxes nobody else names.
    own: Vec<u64>,
    /// For each component, the atoms it shares: pairs, in ascending order.
    shared: Vec<(u32, u32)>,
    /// For each shared atom, how many mailboxes it stands for.
    weights: Vec<u64>,
}

impl Atoms {
    /// `rows` has components with mailboxes they name, in any order and as often as it likes, `named` in all. It
    /// is gone through several times.
    ///
    /// The components that name a mailbox are told apart by a hash of 64 bits of their numbers.
    pub fn new<'a>(
        components: usize,
        named: usize,
        rows: impl Iterator<Item = (u32, &'a [u64])> + Clone,
    ) -> Self {
        let mut atoms = Self { own: vec![0; components], shared: Vec::new(), weights: Vec::new() };
        let mut groups = HashMap::new();
        let passes = (named / PASS + 1).next_power_of_two() as u64;
        let mut pairs = Vec::with_capacity(named.min(PASS + PASS / 8));
        for pass in 0..passes {
            pairs.clear();
            for (component, mailboxes) in rows.clone() {
                // The lowest bit is always 0.
                let of_pass = mailboxes.iter().filter(|mailbox| (**mailbox >> 1) & (passes - 1) == pass);
                pairs.extend(of_pass.map(|mailbox| (*mailbox, component)));
            }
            pairs.sort_unstable();
            pairs.dedup();
            for of_one in pairs.chunk_by(|(left, _), (right, _)| left == right) {
                if let [(_, component)] = of_one {
                    atoms.add(*component, 1);
                } else {
                    atoms.add_shared(of_one, &mut groups);
                }
            }
        }
        atoms.shared.sort_unstable();
        atoms
    }

    /// Adds mailboxes that only this component names.
    pub fn add(&mut self, component: u32, mailboxes: u64) {
        if let Some(own) = self.own.get_mut(component as usize) {
            *own = own.saturating_add(mailboxes);
        }
    }

    fn add_shared(&mut self, of_one: &[(u64, u32)], groups: &mut HashMap<u64, u32>) {
        let group = of_one.iter().fold(0, |group, (_, component)| mix(group ^ u64::from(*component)));
        let next = u32::try_from(self.weights.len()).unwrap_or(u32::MAX);
        let atom = *groups.entry(group).or_insert(next);
        if atom == next {
            self.weights.push(0);
            self.shared.extend(of_one.iter().map(|(_, component)| (*component, atom)));
        }
        if let Some(weight) = self.weights.get_mut(atom as usize) {
            *weight += 1;
        }
    }

    fn own(&self, component: u32) -> u64 {
        self.own.get(component as usize).copied().unwrap_or_default()
    }

    fn weight(&self, atom: u32) -> u64 {
        self.weights.get(atom as usize).copied().unwrap_or_default()
    }

    fn shared_of(&self, component: u32) -> impl Iterator<Item = u32> {
        let start = self.shared.partition_point(|(other, _)| *other < component);
        self.shared
            .iter()
            .skip(start)
            .take_while(move |(other, _)| *other == component)
            .map(|(_, atom)| *atom)
    }

    /// The number of different mailboxes that each wanted component reaches; 0 for the others.
    ///
    /// # Errors
    ///
    /// If that takes more than [`MAX_WORK`] steps.
    pub fn totals(&self, closures: &Closures, wanted: &[bool]) -> Result<Vec<u64>, TooTangled> {
        let mut totals = vec![0; wanted.len()];
        let mut visits =
            Visits { components: vec![0; wanted.len()], atoms: vec![0; self.weights.len()], round: 0 };
        let mut before = None;
        let mut sum = 0_u64;
        let mut work = 0_u64;
        for component in (0..).zip(wanted).filter_map(|(component, wanted)| wanted.then_some(component)) {
            let below = closures.of(component);
            if below.is_empty() {
                // Nothing shared can meet itself here, and a chain is not interrupted.
                let shared = self.shared_of(component).map(|atom| self.weight(atom));
                let total = shared.fold(self.own(component), u64::saturating_add);
                if let Some(place) = totals.get_mut(component as usize) {
                    *place = total;
                }
                continue;
            }
            // A list that contains the one before only adds to it: a chain costs no more than its last list.
            if before.is_none_or(|before| below.binary_search(&before).is_err()) {
                visits.round += 1;
                sum = 0;
            }
            for part in below.iter().copied().chain([component]) {
                work += 1;
                if !visits.component(part) {
                    continue;
                }
                sum = sum.saturating_add(self.own(part));
                for atom in self.shared_of(part) {
                    work += 1;
                    if visits.atom(atom) {
                        sum = sum.saturating_add(self.weight(atom));
                    }
                }
            }
            if work > MAX_WORK {
                return Err(TooTangled::Work);
            }
            before = Some(component);
            if let Some(total) = totals.get_mut(component as usize) {
                *total = sum;
            }
        }
        Ok(totals)
    }
}

/// What has been counted in this round.
struct Visits {
    components: Vec<u32>,
    atoms: Vec<u32>,
    round: u32,
}

impl Visits {
    fn component(&mut self, at: u32) -> bool {
        Self::first(&mut self.components, at, self.round)
    }

    fn atom(&mut self, at: u32) -> bool {
        Self::first(&mut self.atoms, at, self.round)
    }

    fn first(rounds: &mut [u32], at: u32, round: u32) -> bool {
        rounds.get_mut(at as usize).is_some_and(|last| std::mem::replace(last, round) != round)
    }
}

/// The finisher of SplitMix64, so that sets of numbers do not meet by their sums.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
