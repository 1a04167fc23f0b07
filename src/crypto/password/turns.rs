//! A queue in which every client has its turn, however many items one of them adds.

use std::collections::{HashMap, VecDeque};

use crate::client::ClientKey;

pub(super) struct Turns<T> {
    items: HashMap<ClientKey, VecDeque<T>>,
    /// Clients that have items, the next one first.
    order: VecDeque<ClientKey>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            items: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Turns<T> {
    pub(super) fn push(&mut self, client: ClientKey, item: T) {
        let own = self.items.entry(client).or_default();
        if own.is_empty() {
            self.order.push_back(client);
        }
        own.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let client = self.order.pop_front()?;
        let own = self.items.get_mut(&client)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.items.remove(&client);
        } else {
            self.order.push_back(client);
        }
        item
    }

    pub(super) fn len(&self) -> usize {
        self.items.values().map(VecDeque::len).sum()
    }

    /// Number of items that would come out before a new one of `client`.
    pub(super) fn ahead_of(&self, client: ClientKey) -> usize {
        let own = self.items.get(&client).map_or(0, VecDeque::len);
        let others = self.items.iter().filter(|(other, _)| **other != client);
        own + others
            .map(|(_, items)| items.len().min(own + 1))
            .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns_and_each_keeps_its_own_order() {
        let client = |n: u8| ClientKey::of([127, 0, 0, n].into());
        let mut turns = Turns::default();
        for (n, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1")] {
            turns.push(client(n), item);
        }
        assert_eq!(turns.ahead_of(client(4)), 3);
        assert_eq!(turns.ahead_of(client(2)), 4);
        assert_eq!(turns.ahead_of(client(1)), 5);
        turns.push(client(2), "b2");
        let all: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(all, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!((turns.len(), turns.items.len()), (0, 0));
    }
}
