//! Turns of clients.

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
