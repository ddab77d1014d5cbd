//! The command line `flumen`.

fn main() {}
