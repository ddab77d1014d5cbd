//! Nothing: Cargo wants a package to have a target, and this one is there for what it depends on.
