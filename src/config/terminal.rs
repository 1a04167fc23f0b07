//! Variables about the terminal. They are no settings, but are read here as those are:
//! nothing else reads the environment.

/// A terminal that only prints: no colours, and no line is written over.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// May a terminal be sent colours? Not with `NO_COLOR`, nor to one that has none.
pub fn allows_colors() -> bool {
    !is_dumb() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
