//! A queue in which every client has its turn, however many items one of them adds.

use std::collections::{HashMap, VecDeque};

use crate::client_key::ClientKey;

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
#[path = "../../../tests/unit/turns.rs"]
mod tests;
