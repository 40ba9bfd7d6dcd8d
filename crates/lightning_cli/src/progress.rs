//! Bars for long work, on standard error, and only where that is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the bytes of an input of known length.
pub fn bytes(total: u64) -> ProgressBar {
    let bar = on_terminal(Some(total));
    styled(bar, "{bar:40} {bytes}/{total_bytes} {msg} [{elapsed}, {eta} left]")
}

/// A count of things whose end is not known.
pub fn count(what: &str) -> ProgressBar {
    styled(on_terminal(None), &format!("{{spinner}} {{human_pos}} {what} [{{elapsed}}]"))
}

fn on_terminal(total: Option<u64>) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(total, target)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).expect("the templates above are well formed");
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_templates_are_well_formed() {
        super::bytes(10).finish_and_clear();
        super::count("rows").finish_and_clear();
    }
}
