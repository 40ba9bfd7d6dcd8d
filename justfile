# One command each for what is done here; `just` lists them.

default:
    @just --list

# Formatting, lints, documentation: no warnings.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All tests.
test:
    cargo test --workspace

# The same in the profile of the heavy layers: optimised, with every assertion on.
test-heavy:
    cargo test --workspace --profile heavy

# Models of concurrent code by schedule checkers, and `unsafe` code under the address sanitiser.
models *name:
    .ci/models {{ name }}

# The heavy layers with new seeds, for so many hours.
soak hours="1":
    cargo xtask soak --hours {{ hours }}

# Coverage-guided fuzzing: `just fuzz`, `just fuzz page 600`.
fuzz *args:
    .ci/fuzz {{ args }}

# The golden databases anew, once the format has changed (see docs/testing.md).
golden:
    cargo xtask golden

# The tour of the README.
tour:
    cargo run --release -p lightning_cli --example tour

# This engine's rows of the benchmark, for example `just bench --rows get,seek`.
bench *args:
    cargo run --release -p lightning_cli -- bench {{ args }}

# The documentation of the library.
doc:
    cargo doc -p lightning_db --no-deps --open
