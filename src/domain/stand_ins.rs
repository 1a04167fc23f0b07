//! What is spent on a name that has no account. A wrong password costs what the
//! account's hash asks for, and old hashes ask for something else than new ones.
//! Were all unknown names to cost the same, an answer that takes as long as an
//! old hash would say that the name exists. So unknown names are dealt the kinds
//! of hashes that accounts have, in the same proportions, each always the same.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;

use crate::crypto::password::Recipe;
use crate::store::HashSample;

/// Kinds of hashes that are told apart; beyond these a name costs what a new hash does.
const MAX_KINDS: usize = 16;

/// Deals kinds of hashes to names.
#[derive(Debug)]
pub(super) struct StandIns {
    current: Recipe,
    /// From `NOT_MY_KEY`, so that servers on one database deal alike, today and
    /// tomorrow, and nobody else can tell what a name should cost.
    key: hmac::Key,
    kinds: ArcSwap<Vec<Kind>>,
}

/// A kind of hash that accounts have.
#[derive(Clone, Debug)]
struct Kind {
    recipe: Recipe,
    label: String,
    /// How many accounts of the sample have it.
    count: u32,
}

impl StandIns {
    /// All names cost `current`, until something is learnt.
    pub(super) fn new(current: Recipe, key: hmac::Key) -> Self {
        Self {
            current,
            key,
            kinds: ArcSwap::default(),
        }
    }

    /// What is spent on `name` if it has no account: the lowest of numbers that
    /// are drawn once for each name and kind, and stretched by the kind's share
    /// (weighted rendezvous hashing). So while a kind grows rarer, as people sign in
    /// and get new hashes, names leave it and none joins it, as with accounts.
    pub(super) fn deal(&self, name: &str) -> Recipe {
        let kinds = self.kinds.load();
        let dealt = kinds.iter().map(|kind| (self.draw(name, kind), kind));
        let least = dealt.min_by(|(one, _), (other, _)| one.total_cmp(other));
        least.map_or(self.current, |(_, kind)| kind.recipe)
    }

    /// Takes the shares from a sample of stored hashes. What was seen before
    /// and is not among some of many is rare, and stays.
    pub(super) fn learn(&self, sample: &HashSample) {
        let mut kinds = Vec::new();
        for hash in &sample.hashes {
            // An unreadable one costs as much as a new one.
            count(&mut kinds, Recipe::of(hash).unwrap_or(self.current));
        }
        let known = self.kinds.load();
        for known in known.iter().filter(|_| !sample.is_whole) {
            if !kinds.iter().any(|kind| kind.recipe == known.recipe) {
                count(&mut kinds, known.recipe);
            }
        }
        self.kinds.store(Arc::new(kinds));
    }

    /// Takes note of an account's hash, whose kind a sample may have missed.
    pub(super) fn saw(&self, hash: &str) {
        let recipe = Recipe::of(hash).unwrap_or(self.current);
        let is_known = |kinds: &[Kind]| kinds.iter().any(|kind| kind.recipe == recipe);
        if is_known(&self.kinds.load()) {
            return;
        }
        self.kinds.rcu(|kinds| {
            let mut kinds = Vec::clone(kinds);
            if !is_known(&kinds) {
                count(&mut kinds, recipe);
            }
            kinds
        });
    }

    fn draw(&self, name: &str, kind: &Kind) -> f64 {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind.label.as_bytes());
        context.update(b"\0");
        context.update(name.as_bytes());
        let mut first = [0; 4];
        first.copy_from_slice(&context.sign().as_ref()[..4]);
        // Strictly between 0 and 1.
        let even = (f64::from(u32::from_be_bytes(first)) + 0.5) / (f64::from(u32::MAX) + 1.0);
        -even.ln() / f64::from(kind.count)
    }
}

fn count(kinds: &mut Vec<Kind>, recipe: Recipe) {
    if let Some(kind) = kinds.iter_mut().find(|kind| kind.recipe == recipe) {
        kind.count += 1;
    } else if kinds.len() < MAX_KINDS {
        kinds.push(Kind {
            recipe,
            label: recipe.label(),
            count: 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::fernet::SealingKeys;
    use crate::crypto::password::Costs;

    const OLD: &str = "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw";
    const OTHER: &str = "$argon2i$v=19$m=1024,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$bATvYJNoLF35C2ZIR4HyihJ88n6E/5EjYwf9jBZdBmc";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn stand_ins() -> StandIns {
        let key = SealingKeys::parse(KEY).unwrap().derive("a test");
        StandIns::new(Recipe::new(Costs::DEFAULT), key)
    }

    /// So many accounts with an old hash, with another, and with a new one.
    fn sample(old: usize, other: usize, new: usize) -> HashSample {
        let mut hashes = vec![OLD.to_owned(); old];
        hashes.extend(vec![OTHER.to_owned(); other]);
        hashes.extend(vec![String::new(); new]);
        HashSample {
            hashes,
            is_whole: false,
        }
    }

    /// What each of a thousand names is dealt.
    fn deals(stand_ins: &StandIns) -> Vec<Recipe> {
        (0..1000)
            .map(|n| stand_ins.deal(&format!("name {n}")))
            .collect()
    }

    fn share(deals: &[Recipe], hash: &str) -> usize {
        let recipe = Recipe::of(hash);
        deals.iter().filter(|dealt| Some(**dealt) == recipe).count()
    }

    #[test]
    fn names_are_dealt_new_hashes_until_something_is_learnt() {
        let stand_ins = stand_ins();
        assert!(
            deals(&stand_ins)
                .iter()
                .all(|dealt| *dealt == stand_ins.current)
        );
    }

    #[test]
    fn a_kind_is_dealt_as_often_as_accounts_have_it() {
        let stand_ins = stand_ins();
        stand_ins.learn(&sample(60, 20, 120));
        let deals = deals(&stand_ins);
        let shares = (share(&deals, OLD), share(&deals, OTHER));
        // 300 and 100 are expected; the key decides what it is exactly.
        assert_eq!(shares, (286, 94));
    }

    #[test]
    fn a_kind_that_grows_rarer_is_only_ever_left_and_a_growing_one_only_joined() {
        let stand_ins = stand_ins();
        stand_ins.learn(&sample(60, 20, 120));
        let mut before = deals(&stand_ins);
        for old in [50, 30, 10, 1] {
            stand_ins.learn(&sample(old, 20, 180 - old));
            let after = deals(&stand_ins);
            for (was, is) in before.iter().zip(&after) {
                let is_old = |recipe: &Recipe| Some(*recipe) == Recipe::of(OLD);
                assert!(!is_old(is) || is_old(was), "one has become old");
                let is_new = |recipe: &Recipe| *recipe == stand_ins.current;
                assert!(!is_new(was) || is_new(is), "one is no longer new");
            }
            assert!(share(&after, OLD) < share(&before, OLD));
            before = after;
        }
    }

    #[test]
    fn a_rare_kind_is_remembered_unless_all_accounts_were_looked_at() {
        let stand_ins = stand_ins();
        stand_ins.learn(&sample(0, 0, 255));
        stand_ins.saw(OLD);
        assert!((1..20).contains(&share(&deals(&stand_ins), OLD)));
        stand_ins.learn(&sample(0, 0, 255));
        assert!((1..20).contains(&share(&deals(&stand_ins), OLD)));
        stand_ins.learn(&HashSample {
            is_whole: true,
            ..sample(0, 0, 255)
        });
        assert_eq!(share(&deals(&stand_ins), OLD), 0);
    }

    #[test]
    fn the_same_key_deals_the_same_and_another_key_otherwise() {
        let (one, same) = (stand_ins(), stand_ins());
        let key = SealingKeys::parse(&SealingKeys::generate())
            .unwrap()
            .derive("a test");
        let other = StandIns::new(one.current, key);
        for stand_ins in [&one, &same, &other] {
            stand_ins.learn(&sample(100, 0, 100));
        }
        assert_eq!(deals(&one), deals(&same));
        assert_ne!(deals(&one), deals(&other));
    }

    #[test]
    fn there_is_an_end_to_the_kinds() {
        let stand_ins = stand_ins();
        for passes in 1..=100 {
            stand_ins.saw(
                &OLD.replace("t=3", &format!("t={passes}"))
                    .replace("65536", "1024"),
            );
        }
        assert_eq!(stand_ins.kinds.load().len(), MAX_KINDS);
    }
}
