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

# The benchmark beside other engines: `just bench --engines lightning,lmdb --work read` (bench/README.md).
bench *args:
    cargo run --release --manifest-path bench/Cargo.toml -- {{ args }}

# The same with RocksDB, which takes minutes and a C++ compiler to build.
bench-rocksdb *args:
    cargo run --release --manifest-path bench/Cargo.toml --features rocksdb -- {{ args }}

# This engine's rows alone, as a user has them: `just bench-alone --rows get,seek`.
bench-alone *args:
    cargo run --release -p lightning_cli -- bench {{ args }}

# The documentation of the library.
doc:
    cargo doc -p lightning_db --no-deps --open
